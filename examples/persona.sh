#!/usr/bin/env bash
# A captain's voice, learned from 32 short conversations; then a question that is not among them.
#
#   examples/persona.sh [MODEL [options of lora-lab train]]      MODEL: as --model takes it; else the built-in one
set -euo pipefail
here=$(dirname "$0")
model=${1:-builtin}
lora-lab train --model "$model" --data "$here/persona.jsonl" --out "$here/out/persona" \
  --steps 60 --batch 8 --lr 2e-3 --max-length 128 "${@:2}"
lora-lab generate --model "$model" --adapter "$here/out/persona" --temperature 0 --max-new-tokens 48 \
  --prompt "What is your dog called?"
