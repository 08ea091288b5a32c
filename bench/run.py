"""Runs the benchmark on this host and writes its JSON: natively, or under Node + Dawn by way of node_host.mjs.

    python3 -m bench.run --out FILE.json [options]
    node bench/node_host.mjs bench/run.py --out FILE.json [options]

`python3 build.py bench` does both and brings PyTorch's figures along. The page in bench/page/ calls the same suite.
"""

import argparse
import asyncio
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.few_steps import measure_few_steps
from bench.micro import measure_products
from bench.mixtures import MIXTURES
from bench.rows import Row, kernel_table, table
from bench.shapes import SHAPES
from bench.suite import Options, run_all
from bench.synthetic import TINY, random_model
from lora_lab.errors import LoraLabError
from lora_lab.formats.byte_source import BlobSource, ByteSource, sources_from_path
from lora_lab.formats.tensors import FORMS
from lora_lab.gpu import Device, open_device
from lora_lab.model.files import open_model

IN_PYODIDE = sys.platform == "emscripten"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.run", description="Measures the engine on this machine's GPU.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="what bench/baseline.py wrote on this machine")
    parser.add_argument("--model", metavar="NAME", help="a .gguf file or a model's folder; or tiny, for a try")
    parser.add_argument("--shape", choices=SHAPES, help="seeded random weights of this model's shape; without products")
    parser.add_argument("--form", choices=MIXTURES, help="how random weights are kept (default: q4_1)")
    parser.add_argument("--quick", action="store_true", help="leave out the curves and the 1,000 steps")
    parser.add_argument("--profile", action="store_true", help="also the time by kernel")
    parser.add_argument("--forms", metavar="A,B", help="only products, with weights of these forms; or all")
    parser.add_argument("--sizes", default="2048,8192,1152,3072", metavar="N,M", help="their numbers of ins and outs")
    parser.add_argument("--rows", default="512,4096", metavar="N,M", help="their numbers of rows")
    parser.add_argument("--steps-only", type=int, metavar="N", help="load --model, train N steps, and nothing else")
    parser.add_argument("--commit", default="unknown", help="which state of the project this is")
    return parser.parse_args(arguments)


def reachable(path: Path) -> Path:
    """Return where the host's file is: node_host.mjs mounts the host's root and tells the folder it was started in."""
    return Path(f"/host/{Path(globals()['HOST_FOLDER'], path)}") if IN_PYODIDE else path


async def model_sources(path: Path) -> Sequence[ByteSource]:
    """Return a model's file or folder as sources; under Node read by Node itself, whose files may have any size."""
    files = sources_from_path(reachable(path))
    if not IN_PYODIDE:
        return files
    import js

    outside = [f"/{file.path.relative_to('/host')}" for file in files]
    return [BlobSource(await js.openFileBlob(path), file.name) for path, file in zip(outside, files, strict=True)]


def host_name() -> str:
    if IN_PYODIDE:
        import js

        return f"Node {js.process.version} + Dawn, Pyodide"
    return f"CPython {platform.python_version()}, wgpu-native"


async def compare_forms(device: Device, asked: argparse.Namespace, out: Path) -> None:
    """Time products of every pair of the sizes asked for, and print them side by side, a column a form."""
    forms = FORMS if asked.forms == "all" else asked.forms.lower().split(",")
    unknown = [form for form in forms if form not in FORMS]
    if unknown:
        raise LoraLabError(f"--forms: {', '.join(unknown)}; wanted some of {', '.join(FORMS)}")
    sizes, rows = ([int(number) for number in text.split(",")] for text in (asked.sizes, asked.rows))
    shapes = [(ins, outs) for ins in sizes for outs in sizes]

    def say(row: Row) -> None:
        print(f"{row.name}: {row.value:,.4g} {row.unit}, {row.more['ms']:.4g} ms", flush=True)

    found, left_out = await measure_products(device, shapes, rows, forms, say)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    result: dict[str, Any] = {"adapter": device.info.name, "date": date, "commit": asked.commit, "host": host_name()}
    result |= {"left_out": left_out, "rows": [row.to_json() for row in found]}
    out.write_text(json.dumps(result, indent=1) + "\n")
    for line in dict.fromkeys(left_out):
        print(f"Left out: {line}")
    by_product: dict[str, dict[str, float]] = {}
    for row in found:
        _, shape, form, *direction = row.name.split()
        by_product.setdefault(" ".join([shape, *direction]), {})[form] = row.more["ms"]
    print(f"\n| ms (over {forms[0]}) | {' | '.join(forms)} |\n|{'---|' * (len(forms) + 1)}")
    for name, times in by_product.items():
        first = times.get(forms[0], float("nan"))
        cells = [f"{times[form]:.3f} ({times[form] / first:.2f})" if form in times else "-" for form in forms]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


async def few_steps(device: Device, asked: argparse.Namespace, options: Options, out: Path) -> None:
    """Bring the model to the GPU and train as many steps as were asked for; print and write how that went."""
    files = options.files or (random_model(TINY) if options.tiny else None)
    if files is None:
        raise LoraLabError("--steps-only: wanted --model, a .gguf file, a model's folder or tiny")

    def say(row: Row) -> None:
        print(f"{row.name}: {row.value:,.4g} {row.unit} {row.more or ''}", flush=True)

    found = await measure_few_steps(device, files, asked.steps_only, options.sizes.memory, say)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    result: dict[str, Any] = {"adapter": device.info.name, "date": date, "commit": asked.commit, "host": host_name()}
    result |= {"what": files.name, "left_out": [], "rows": [row.to_json() for row in found]}
    out.write_text(json.dumps(result, indent=1) + "\n")


async def main(arguments: list[str]) -> None:
    """Measure, writing what is known after each part, and print the table."""
    asked = parse(arguments)
    options = Options(quick=asked.quick, profile=asked.profile, host=host_name(), commit=asked.commit)
    if asked.form and asked.model not in (None, "tiny"):
        raise LoraLabError(f"--form {asked.form} is for random weights; {asked.model} has its own")
    options.form = asked.form or options.form
    if asked.baseline:
        options.baseline = json.loads(reachable(asked.baseline).read_text())
    if asked.shape:
        options.shape = asked.shape
    elif asked.model == "tiny":
        options.tiny = True
    elif asked.model:
        options.files = await open_model(await model_sources(Path(asked.model)))
    out = reachable(asked.out)
    device = await open_device()
    if device.info.is_software:
        print(f"{device.info.name} is a software device: its times say nothing about a GPU.")
    if asked.forms:
        await compare_forms(device, asked, out)
        return
    if asked.steps_only:
        await few_steps(device, asked, options, out)
        return

    def save(result: dict) -> None:
        out.write_text(json.dumps(result, indent=1) + "\n")

    def say(line: str) -> None:
        print(line, flush=True)

    result = await run_all(device, options, say, save)
    save(result)
    if result["kernels"]:
        print(kernel_table(result["kernels"]))
    elif asked.profile:
        print("This device has no timestamps: there is no time by kernel.")
    for line in result["left_out"]:
        print(f"Left out: {line}")
    print(f"\n{table(result)}\n", flush=True)


async def run_and_close(arguments: list[str]) -> int:
    """Return the exit code: 1 for what a person can mend, said in one line."""
    try:
        await main(arguments)
    except LoraLabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


# Pyodide's loop is running already: node_host.mjs awaits this and takes its result for the exit code.
RUNNING = asyncio.ensure_future(run_and_close(list(globals()["ARGUMENTS"]))) if IN_PYODIDE else None
if __name__ == "__main__" and not IN_PYODIDE:
    raise SystemExit(asyncio.run(run_and_close(sys.argv[1:])))
