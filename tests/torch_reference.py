"""The same model and adapter in PyTorch, transformers and PEFT, float64 unless asked otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, get_scheduler
from transformers.utils import logging

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.batches import Example

logging.disable_progress_bar()
torch.set_num_threads(1)  # a tiny model's tensors are too small to share, and threads that wait for each other spin

Tensors = Mapping[str, np.ndarray]


def load_base(path: Path, dtype: torch.dtype = torch.float64) -> Any:
    """Return transformers' model of a folder or of a .gguf file."""
    if path.suffix == ".gguf":
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model.to(dtype).eval()


def add_adapter(base: Any, config: LoraConfig, tensors: Tensors) -> Any:
    """Return PEFT's model with exactly `tensors` (PEFT's keys) as its matrices. The base is changed in place."""
    settings = PeftConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), task_type="CAUSAL_LM",
        use_rslora=config.use_rslora,
    )  # fmt: skip
    dtype = next(base.parameters()).dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for something by its older name
        model = get_peft_model(base, settings).to(dtype).eval()
    result = set_peft_model_state_dict(model, {name: torch.tensor(t).to(dtype) for name, t in tensors.items()})
    assert not result.unexpected_keys
    assert {name for name, _ in _trained(model)} == set(tensors)
    return model


def _trained(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the adapter's matrices by PEFT's key."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name.replace(".default.", "."), parameter


def values(model: Any) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy().copy() for name, parameter in _trained(model)}


def gradients(model: Any) -> dict[str, np.ndarray]:
    return {name: parameter.grad.numpy().copy() for name, parameter in _trained(model)}


def loss(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Return the mean over all trained tokens of all examples, each example run by itself and unpadded."""
    total, count = 0.0, 0
    for example in examples:
        tokens = torch.tensor(example.tokens, dtype=torch.long)
        trained = torch.tensor(example.trained[1:])
        logits = model(input_ids=tokens[None]).logits[0, :-1][trained]
        total = total + torch.nn.functional.cross_entropy(logits, tokens[1:][trained], reduction="sum")
        count += int(trained.sum())
    return total / count


@torch.no_grad()
def accuracy(model: Any, examples: Sequence[Example]) -> float:
    """Return the share of trained tokens that are the likeliest after those before them."""
    hits = count = 0
    for example in examples:
        tokens, trained = torch.tensor(example.tokens, dtype=torch.long), torch.tensor(example.trained[1:])
        found = model(input_ids=tokens[None]).logits[0, :-1].argmax(-1)
        hits += int((found == tokens[1:])[trained].sum())
        count += int(trained.sum())
    return hits / count


@torch.no_grad()
def half_greedy(model: Any, lengths: Sequence[int], vocab_size: int, seed: int) -> list[Example]:
    """Return examples of which about half of the tokens are what the model itself holds likeliest, the rest random."""
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        tokens = [int(rng.integers(vocab_size))]
        while len(tokens) < length:
            likeliest = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            tokens.append(likeliest if rng.random() < 0.5 else int(rng.integers(vocab_size)))
        trained = rng.random(length) < 0.7
        trained[0], trained[-1] = False, True
        examples.append(Example(np.array(tokens, np.int32), trained))
    return examples


def loss_and_gradients(model: Any, examples: Sequence[Example]) -> tuple[float, dict[str, np.ndarray]]:
    model.zero_grad()
    value = loss(model, examples)
    value.backward()
    return value.item(), gradients(model)


def train(model: Any, steps: Sequence[Sequence[Example]], config: TrainConfig) -> list[float]:
    """Do a step for each group of examples as PyTorch's AdamW does; return the loss before each update."""
    parameters = [parameter for _, parameter in _trained(model)]
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, (config.beta1, config.beta2), config.adam_eps, config.weight_decay
    )
    names = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
    scheduler = get_scheduler(names[config.schedule], optimizer, config.warmup_steps, len(steps))
    losses = []
    for examples in steps:
        losses.append(loss_and_gradients(model, examples)[0])
        if config.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        scheduler.step()
    return losses


@torch.no_grad()
def logits(model: Any, tokens: Sequence[int]) -> np.ndarray:
    """Return (T, V) in the model's own precision."""
    return model(input_ids=torch.tensor([list(tokens)])).logits[0].numpy()
