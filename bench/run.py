"""All rows of the benchmark on this host, written as JSON; run by bench/node_host.mjs (Node + Dawn) or natively.

    node bench/node_host.mjs bench/run.py OUT.json [BASELINE.json]         python3 -m bench.run OUT.json [BASELINE.json]

BASELINE.json is what bench/baseline.py wrote on the same machine; without it the ratios stay empty.
"""

import asyncio
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

if sys.platform == "emscripten":
    sys.path.insert(0, "/project")
    folder = globals()["HOST_FOLDER"]  # both set by node_host.mjs; the machine's files are under /host
    arguments = [f"/host/{Path('/', folder, name)}" for name in globals()["ARGUMENTS"]]
    HOST = "Node + Dawn, Pyodide"
else:
    arguments = sys.argv[1:]
    HOST = f"CPython {platform.python_version()}, wgpu-native"

from bench.measure import Row, measure_chat, measure_step
from bench.synthetic import SMOLLM2_135M, random_model
from lora_lab.gpu import open_device
from lora_lab.model import load_model

SHAPES = ((1, 128), (1, 512), (8, 512))


async def main(out: Path, baseline: dict) -> None:
    """Measure every row and write them, each as soon as it is known."""
    device = await open_device()
    rows: list[Row] = []
    kernels: dict[str, dict[str, float]] = {}

    def write() -> None:
        steps = baseline.get("steps", {})
        for row in rows:
            theirs = steps.get(row.name.removeprefix("step "), {})
            if row.name.startswith("step ") and theirs:
                row.baseline, row.ratio = theirs["ms"], row.value / theirs["ms"]
            if row.name == "memory 1x512" and "1x512" in steps:
                row.baseline = steps["1x512"]["peak_mib"]
                row.ratio = row.value / row.baseline
        found = {
            "adapter": baseline.get("gpu", device.info.name), "date": time.strftime("%Y-%m-%d"), "host": HOST,
            "what": "SmolLM2-135M's shape, Q4_1 with seeded random weights, LoRA r=16 on all linear layers",
            "baseline": f"PyTorch {baseline['torch']} + PEFT, f32, eager, same machine, same run" if baseline else None,
            "rows": [asdict(row) for row in rows],
            "kernels_ms": kernels,
            "cublas_f32_tflops": baseline.get("matmul"),
        }  # fmt: skip
        out.write_text(json.dumps(found, indent=1) + "\n")

    print(device.info.name)
    model = await load_model(device, random_model(SMOLLM2_135M))
    for batch, length in SHAPES:
        row, by_kernel, trainer = await measure_step(model, batch, length, profile=True)
        rows.append(row)
        shape = f"{batch}x{length}"
        rows.append(Row(f"first step {shape}", by_kernel.pop("first step"), "ms"))
        rows.append(Row(f"memory {shape}", trainer.memory.total_bytes / 2**20, "MiB"))
        kernels[shape] = {k: round(v, 3) for k, v in sorted(by_kernel.items(), key=lambda item: -item[1])}
        trainer.close()
        trainer.adapter.release()
        write()
    off, prefill = await measure_chat(model, adapter_on=False)
    on, _ = await measure_chat(model, adapter_on=True)
    rows += [off, prefill, on, Row("decode adapter share", on.value / off.value, "of decode")]
    write()
    for row in rows:
        ratio = "" if row.ratio is None else f"   {row.ratio:.3f} of PyTorch"
        print(f"{row.name:24s} {row.value:10.2f} {row.unit}{ratio}")


out_path = Path(arguments[0])
theirs = json.loads(Path(arguments[1]).read_text()) if len(arguments) > 1 else {}
run = main(out_path, theirs)
# Pyodide's loop is running already; node_host.mjs awaits the value of the last line.
asyncio.ensure_future(run) if sys.platform == "emscripten" else asyncio.run(run)
