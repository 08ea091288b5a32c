"""PyTorch + PEFT on the same machine: the figures that ours are divided by. Needs torch, transformers and peft.

    python3 -m bench.baseline [--out FILE.json] [BxT ...]

Float32 with TF32 off, eager, LoRA r=16 on all linear layers, AdamW, clip 1.0, SmolLM2-135M's shape, random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def build() -> torch.nn.Module:
    """Return SmolLM2-135M's shape with random weights and an adapter, on the GPU."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rms_norm_eps=1e-5, max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to("cuda", torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def step_ms(model: torch.nn.Module, batch: int, length: int, seconds: float = 3.0) -> tuple[float, float]:
    """Return (median ms of a training step, peak MiB)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0)
    tokens = torch.randint(0, 49152, (batch, length), device="cuda")
    torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    for _ in range(4):
        step()
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), torch.cuda.max_memory_allocated() / 2**20


def matmul_tflops(m: int, k: int, n: int) -> float:
    """Return cuBLAS's f32 rate for (m, k) by (k, n)."""
    a, b = torch.randn(m, k, device="cuda"), torch.randn(n, k, device="cuda")
    for _ in range(5):
        a @ b.T
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(50):
        a @ b.T
    end.record()
    torch.cuda.synchronize()
    return 2 * m * k * n * 50 / (start.elapsed_time(end) / 1e3) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shapes", nargs="*", default=["1x128", "1x512", "8x512"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = build()
    result: dict = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "steps": {}, "matmul": {}}
    for shape in args.shapes:
        batch, length = map(int, shape.split("x"))
        ms, peak = step_ms(model, batch, length)
        result["steps"][shape] = {"ms": ms, "peak_mib": peak}
    for m in (128, 512, 4096):
        for k, n in ((576, 1536), (1536, 576), (576, 576), (576, 49152)):
            result["matmul"][f"{m}x{k}x{n}"] = matmul_tflops(m, k, n)
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
