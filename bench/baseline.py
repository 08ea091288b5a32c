"""PyTorch + PEFT on the same machine: the figures that ours are divided by. Needs torch, transformers, peft and CUDA.

    python3 -m bench.baseline [--out FILE.json] [--shape NAME] [--quick] [--bf16] [--compile] [--check]

Float32 with TF32 off, eager, LoRA r=16 on all linear layers, AdamW, clip 1.0, random weights, SmolLM2-135M's shape or
that of another of bench/shapes.py. --bf16 measures steps and replies once more with the model's weights and activations
in bf16, the adapter being f32 as PEFT has it.
Products are timed by CUDA events over a CUDA graph of 30 in a row, so that no launch from Python is in them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.shapes import SHAPES

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = ((1, 128), (1, 512), (8, 512))
COMPILED = ((1, 512, "reduce-overhead"), (8, 512, "default"))
TOKENS = (64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8, 16)
LAYERS = ((576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49152))  # in, out; joined as ours are
MATMUL_ROWS = (128, 512, 1024, 4096)
PEAK = 4096  # the product whose rate is taken for cuBLAS's best, by itself three times
GRAPHED = 30
DEVICE = "cuda"
MISSING = 3  # exit code


def what_is_missing() -> str | None:
    """Return why there can be no baseline here, or None."""
    for name in ("torch", "transformers", "peft"):
        try:
            __import__(name)
        except ImportError as error:
            return f"no {name} ({error})"
    import torch

    return None if torch.cuda.is_available() else "torch finds no CUDA device"


def build(shape: str, rank: int = 16, dtype: str = "float32") -> Any:
    """Return a model of this shape with random weights of `dtype` and an adapter, on the GPU."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    config = AutoConfig.for_model(**SHAPES[shape])
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).to(DEVICE)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="CAUSAL_LM"))


def step_ms(model: Any, batch: int, length: int, seconds: float, forward: Any = None) -> tuple[float, float]:
    """Return (median ms of a training step, peak MiB). `forward` stands in for the model where it is compiled."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    # `is None`: a compiled model cannot be asked whether it is true (that would be its length, which it does not have).
    run, more = (model, {}) if forward is None else (forward, {"fused": True})
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, **more)
    tokens = torch.randint(0, model.config.vocab_size, (batch, length), device=DEVICE)
    torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        loss = run(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    ms = median_ms(step, seconds)
    return ms, torch.cuda.max_memory_allocated() / 2**20


def median_ms(run: Callable[[], object], seconds: float, warm: int = 4, least: int = 5) -> float:
    """Return the median wall-clock ms of `run`, which waits for the GPU itself, after `warm` ones."""
    for _ in range(warm):
        run()
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < least:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def matmul_tflops(m: int, k: int, n: int) -> float:
    """Return cuBLAS's f32 rate for (m, k) by (k, n): the median of seven replays of a graph of 30 in a row."""
    import torch

    a, b = torch.randn(m, k, device=DEVICE), torch.randn(n, k, device=DEVICE)
    out = torch.empty(m, n, device=DEVICE)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # cuBLAS takes its workspace before the capture
        for _ in range(5):
            torch.mm(a, b.T, out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPHED):
            torch.mm(a, b.T, out=out)
    times = []
    for _ in range(8):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / GRAPHED)
    return 2 * m * k * n / (statistics.median(times[1:]) * 1e9)


def chat(model: Any, new_tokens: int = 32) -> dict[str, float]:
    """Return greedy decoding with the adapter off and on, and a prefill of 1,024 tokens, under our rows' names."""
    import torch

    found = {}
    prompt = torch.randint(3, model.config.vocab_size, (1, 64), device=DEVICE)
    long = torch.randint(3, model.config.vocab_size, (1, 1024), device=DEVICE)

    def generate(count: int) -> None:
        model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count,
                       min_new_tokens=count, do_sample=False, pad_token_id=0)  # fmt: skip
        torch.cuda.synchronize()

    base = model.get_base_model()  # the adapter's layers are inside it

    def prefill() -> None:
        hidden = base.model(input_ids=long, use_cache=True).last_hidden_state
        base.lm_head(hidden[:, -1:])
        torch.cuda.synchronize()

    def measure(suffix: str) -> None:
        with torch.no_grad():
            one, many = (median_ms(lambda count=count: generate(count), 0.5, 1, 3) for count in (1, 1 + new_tokens))
            found[f"decode{suffix}"] = new_tokens / (many - one) * 1e3
            found[f"prefill 1024{suffix}"] = median_ms(prefill, 0.5)

    with model.disable_adapter():
        measure("")
    measure(" adapter")
    found["decode adapter share"] = found["decode adapter"] / found["decode"]
    return found


def compiled(model: Any) -> dict[str, dict[str, float]]:
    """Return steps of torch.compile's two strongest forms; each takes a minute or more to compile."""
    import torch

    found = {}
    for batch, length, mode in COMPILED:
        torch._dynamo.reset()
        start = time.perf_counter()
        ms, peak = step_ms(model, batch, length, 3.0, torch.compile(model, mode=mode))
        found[f"{batch}x{length} {mode}"] = {"ms": ms, "peak_mib": peak, "whole_s": time.perf_counter() - start}
    return found


def steps_and_chat(model: Any) -> dict[str, Any]:
    """Return the steps of every shape, and what replies take, under our rows' names."""
    found: dict[str, Any] = {"steps": {}}
    for batch, length in STEPS:
        ms, peak = step_ms(model, batch, length, 3.0)
        found["steps"][f"{batch}x{length}"] = {"ms": ms, "peak_mib": peak}
        print(f"step {batch}x{length}: {ms:.1f} ms, {peak:,.0f} MiB", flush=True)
    found["rows"] = chat(model)
    print("chat:", {name: round(value, 2) for name, value in found["rows"].items()}, flush=True)
    return found


def measure(shape: str, quick: bool, with_compile: bool, with_bf16: bool) -> dict[str, Any]:
    """Return everything, as bench/rows.py reads it."""
    import peft
    import torch

    result: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(), "shape": shape, "torch": torch.__version__, "matmul": {}, "curves": {},
        "what": f"PyTorch {torch.__version__} + PEFT {peft.__version__}, f32, TF32 off, eager, same machine, same run",
    }  # fmt: skip
    if with_bf16:
        print("in bf16:", flush=True)
        model = build(shape, dtype="bfloat16")
        result["bf16"] = steps_and_chat(model)
        del model
        torch.cuda.empty_cache()
    model = build(shape)
    result |= steps_and_chat(model)
    if not quick:
        result["curves"]["tokens"] = [[tokens, step_ms(model, 1, tokens, 0.7)[0]] for tokens in TOKENS]
        result["curves"]["batch"] = [[batch, step_ms(model, batch, 512, 0.7)[0]] for batch in BATCHES]
    if with_compile:
        result["compiled"] = compiled(model)
    del model
    torch.cuda.empty_cache()
    shapes = [(m, *pair) for ins, outs in LAYERS for pair in ((ins, outs), (outs, ins)) for m in MATMUL_ROWS]
    for m, k, n in [(PEAK, PEAK, PEAK), *dict.fromkeys(shapes)]:
        result["matmul"][f"{m}x{k}x{n}"] = matmul_tflops(m, k, n)
    peak = result["matmul"][f"{PEAK}x{PEAK}x{PEAK}"]
    print(f"cuBLAS f32: {len(result['matmul'])} products, {peak:.1f} TFLOP/s at {PEAK} cubed", flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.baseline", description="Measures PyTorch + PEFT on this machine.")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="whose shape the model has")
    parser.add_argument("--quick", action="store_true", help="leave out the curves")
    parser.add_argument("--bf16", action="store_true", help="also steps and replies of the model in bf16")
    parser.add_argument("--compile", action="store_true", help="also torch.compile's steps (some minutes)")
    parser.add_argument("--check", action="store_true", help="only say whether it can run here")
    asked = parser.parse_args()
    missing = what_is_missing()
    if missing:
        print(missing, file=sys.stderr)
        return MISSING
    if not asked.check:
        text = json.dumps(measure(asked.shape, asked.quick, asked.compile, asked.bf16), indent=1) + "\n"
        if asked.out:
            asked.out.write_text(text)
        else:
            print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
