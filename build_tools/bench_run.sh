#!/bin/sh
# Runs the benchmark on this machine, offline: prints one table and writes its JSON into the folder it was started in.
#
#   ./lora-lab-bench/run.sh [--baseline] [--bf16] [--quick] [--profile] [--shape NAME [--form NAMES]] [--out FILE.json] [MODEL]
#
# MODEL is a .gguf file, a Hugging Face folder, or tiny (for a try). A GGUF lying beside this script is used by itself;
# without one, seeded random weights of SmolLM2's shape are; --shape takes another's (a name of bench/shapes.py).
# --form says how those are kept (names of bench/mixtures.py with commas: a run each, into FILE-NAME.json).
# --baseline needs PyTorch, transformers and PEFT in the machine's own python3 (or the one LORA_LAB_PYTHON names); --bf16 is for it too.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
baseline= bf16= quick= profile= shape= forms= model= out=
while [ $# -gt 0 ]; do
  case $1 in
    --baseline) baseline=1 ;;
    --bf16) bf16=--bf16 ;;
    --form) [ $# -gt 1 ] || { echo "run.sh: --form needs names of bench/mixtures.py" >&2; exit 2; }; forms=$(echo "$2" | tr , ' '); shift ;;
    --quick) quick=--quick ;;
    --profile) profile=--profile ;;
    --shape) [ $# -gt 1 ] || { echo "run.sh: --shape needs a model's name" >&2; exit 2; }; shape=$2; shift ;;
    --out) [ $# -gt 1 ] || { echo "run.sh: --out needs a file's name" >&2; exit 2; }; out=$2; shift ;;
    --model) [ $# -gt 1 ] || { echo "run.sh: --model needs a file's name, a folder's, or tiny" >&2; exit 2; }; model=$2; shift ;;
    -h|--help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: $1 is no option; see --help" >&2; exit 2 ;;
    *) model=$1 ;;
  esac
  shift
done
[ -n "$out" ] || out=lora-lab-bench-$(date -u +%Y-%m-%d).json
if [ -z "$model$shape" ]; then
  for file in "$here"/*.gguf; do [ -f "$file" ] && model=$file && break; done
elif [ -n "$model" ] && [ "$model" != tiny ] && [ ! -f "$model" ] && [ ! -d "$model" ]; then
  echo "run.sh: there is no file $model, and no folder" >&2; exit 2
fi

# PyTorch first, with the machine's own libraries: none of ours may get in its way.
theirs=
if [ -n "$baseline" ]; then
  python=${LORA_LAB_PYTHON:-python3}
  if ! reason=$(cd "$here" && "$python" -m bench.baseline --check 2>&1); then
    echo "run.sh: --baseline cannot run with $python: $reason" >&2
    echo "It needs torch, transformers and peft in a Python that sees a CUDA device; or leave --baseline out." >&2
    exit 1
  fi
  theirs=$(mktemp); trap 'rm -f "$theirs"' EXIT
  case $theirs in /*) ;; *) theirs=$PWD/$theirs ;; esac
  echo "PyTorch + PEFT:"
  (cd "$here" && "$python" -m bench.baseline $quick $bf16 ${shape:+--shape "$shape"} --out "$theirs")
fi

# The NVIDIA driver's Vulkan description, where the system does not say already which driver to take.
if [ -z "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ]; then
  for folder in /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d \
      /usr/local/nvidia/share/vulkan/icd.d /opt/nvidia/share/vulkan/icd.d /run/opengl-driver/share/vulkan/icd.d; do
    for file in "$folder"/nvidia_icd*.json; do
      [ -f "$file" ] && { VK_ICD_FILENAMES=$file; export VK_ICD_FILENAMES; break 2; }
    done
  done
fi
libraries=
for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
  [ -d "$folder" ] && libraries=$libraries:$folder
done
# The machine's own loader and vendor-neutral libraries are newer than its driver at least; ours are for machines without.
has() {
  for folder in /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu /usr/lib64 /lib64 /usr/lib /usr/local/lib \
      $(echo "$libraries:${LD_LIBRARY_PATH:-}" | tr : ' '); do
    [ -e "$folder/$1" ] && return 0
  done
  return 1
}
has libvulkan.so.1 || libraries=$libraries:$here/vulkan
has libGLdispatch.so.0 || libraries=$libraries:$here/glvnd
# Node's own C++ library only where the machine lacks it: a driver may need a newer one than ours.
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}$libraries; LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}; export LD_LIBRARY_PATH
"$here/node" -e 'require(process.argv[1])' "$here/node_modules/webgpu" >/dev/null 2>&1 ||
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/lib

LORA_LAB_DIST=$here/dist LORA_LAB_NODE_MODULES=$here/node_modules
export LORA_LAB_DIST LORA_LAB_NODE_MODULES
measure() { # OUT [FORM]
  "$here/node" --expose-gc --no-warnings "$here/bench/node_host.mjs" "$here/bench/run.py" --out "$1" \
    --commit "$(cat "$here/COMMIT")" ${theirs:+--baseline "$theirs"} ${model:+--model "$model"} \
    ${shape:+--shape "$shape"} ${2:+--form "$2"} $quick $profile
  echo "Written: $1"
}
case $forms in
  *' '*) for form in $forms; do measure "${out%.json}-$form.json" "$form"; done ;;
  *) measure "$out" $forms ;;
esac
