#!/usr/bin/env bash
# Which of four desks a letter is for, learned from 40 letters, a fifth of them held back to measure on.
#
#   examples/requests.sh [MODEL [options of lora-lab train]]      MODEL: as --model takes it; else the built-in one
set -euo pipefail
here=$(dirname "$0")
model=${1:-builtin}
lora-lab train --model "$model" --data "$here/requests.jsonl" --out "$here/out/requests" \
  --steps 40 --batch 8 --lr 1e-3 --max-length 128 --val-fraction 0.2 "${@:2}"
lora-lab generate --model "$model" --adapter "$here/out/requests" --temperature 0 --max-new-tokens 8 \
  --prompt "The handle of the drawer came off in my hand."
