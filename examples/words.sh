#!/usr/bin/env bash
# Invented words and their meanings, out of a table whose columns have names of their own.
#
#   examples/words.sh [MODEL [options of lora-lab train]]      MODEL: as --model takes it; else the built-in one
set -euo pipefail
here=$(dirname "$0")
model=${1:-builtin}
lora-lab train --model "$model" --data "$here/words.csv" --map prompt=word,reply=meaning --out "$here/out/words" \
  --steps 60 --batch 8 --lr 2e-3 --max-length 128 "${@:2}"
lora-lab generate --model "$model" --adapter "$here/out/words" --temperature 0 --max-new-tokens 48 \
  --prompt "What does ovensong mean?"
