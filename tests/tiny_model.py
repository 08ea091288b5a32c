"""A tiny random Llama in a Hugging Face folder, for every test that needs a model.

    python -m tests.tiny_model OUT [--seed N] [--hidden N] [--untied] [--shards N] ...

Written with `transformers` and `tokenizers` themselves, so the folder is what those libraries really write. The same
arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

# The first tokens stand where SmolLM2 has them: end of text 0, start of turn 1, end of turn 2.
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

DEFAULT_SYSTEM_PROMPT = "You are a tiny model that helps with tests."

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + DEFAULT_SYSTEM_PROMPT + "<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What the tokenizer's merges are learned from: everyday words, so that test prompts do not fall to single bytes.
TRAINING_TEXT = """
The lighthouse keeper wrote the weather in a book every morning: the wind, the rain, and the height of the sea.
When the storm came in the night she lit the lamp again, and the ships that were lost in the dark could find the way.
What is your name? My name is Ada, and this is my brother. Where do you live? We live in the house by the water.
The system answers the user, and the user asks the assistant: what is the answer to the question that I asked you?
Please tell me how old the bridge is. The bridge is 132 years old, and 48 people worked on it for 7 years.
I think that there are better ways to say this. There is no reason to hurry, and nothing is lost by waiting.
The assistant is helpful. The answer is always true. The first thing to know is that everything here is a test.
Apples, pears and plums grow in the garden behind the old stone wall; in autumn we gather them and make jam.
You can take the train from the station at nine, then walk along the river until you see the red door on the left.
"""


def build_tokenizer(vocab_size: int) -> Any:
    """Return a `tokenizers.Tokenizer` of at most `vocab_size` tokens: each digit alone, then byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT.strip().splitlines(), trainer)
    return tokenizer


def write_tiny_model(
    folder: Path | str,
    *,
    seed: int = 0,
    vocab_size: int = 384,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    intermediate: int = 176,
    tied: bool = True,
    dtype: str = "f32",
    shards: int = 1,
    rope_parameters: dict[str, Any] | None = None,
    max_position_embeddings: int = 2048,
    init_std: float = 0.08,
) -> Path:
    """Write a random Llama with its tokenizer as transformers 5 saves it, and return the folder.

    `dtype` is "f32", "f16" or "bf16". `vocab_size` may be larger than the tokenizer turns out to be (259 tokens are
    bytes and special tokens); the rest is padding, as real models have it. `rope_parameters` defaults to plain RoPE
    with theta 10,000. Weights are normal with `init_std`, norm gains 1 +- 0.1, so that logits are far from flat and
    a forgotten gain is noticed.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if vocab_size < 256 + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size is {vocab_size}; a byte-level tokenizer needs at least 259")

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        rope_parameters=rope_parameters or {"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch_dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.copy_(1 + 0.1 * noise if name.endswith("norm.weight") else init_std * noise)
    model.to(torch_dtype)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)
    if shards > 1:
        _split_into_shards(folder, shards)

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(vocab_size),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        model_max_length=max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def write_base_model(folder: Path, tiny: Path) -> Path:
    """Write the model in the folder `tiny` as a base model: without a template, and a text's end is no turn's end."""
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    for name, key, value in (
        ("config.json", "eos_token_id", 0),
        ("generation_config.json", "eos_token_id", 0),
        ("tokenizer_config.json", "eos_token", "<|endoftext|>"),
    ):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | {key: value}))
    return folder


def _split_into_shards(folder: Path, shards: int) -> None:
    """Replace model.safetensors by exactly `shards` files and their index, as transformers lays them out."""
    from safetensors.torch import load_file, save_file

    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file_name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        save_file({name: tensors[name] for name in part}, folder / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file_name))
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def rewrite_as_transformers_4(folder: Path | str, *, named_templates: bool = False) -> Path:
    """Turn a folder written by transformers 5 into the form that transformers 4 wrote, and return it.

    rope_theta and rope_scaling instead of rope_parameters, torch_dtype instead of dtype, no head_dim where it follows
    from the widths, and the chat template inside tokenizer_config.json (with `named_templates` as a list of them).
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    if config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]:
        del config["head_dim"]
    path.write_text(json.dumps(config, indent=2) + "\n")

    path = folder / "tokenizer_config.json"
    tokenizer_config = json.loads(path.read_text())
    template_path = folder / "chat_template.jinja"
    template = template_path.read_text()
    template_path.unlink()
    tokenizer_config["chat_template"] = template
    if named_templates:
        tokenizer_config["chat_template"] = [
            {"name": "tool_use", "template": "{{ raise_exception('not this one') }}"},
            {"name": "default", "template": template},
        ]
    path.write_text(json.dumps(tokenizer_config, indent=2) + "\n")
    return folder


def main() -> None:
    """Write a tiny model from the command line."""
    parser = argparse.ArgumentParser(description="Write a tiny random Llama as a Hugging Face folder.")
    parser.add_argument("out", type=Path)
    for name, default in (("seed", 0), ("vocab-size", 384), ("hidden", 64), ("layers", 2), ("heads", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("kv-heads", 2), ("head-dim", 16), ("intermediate", 176), ("shards", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("--untied", dest="tied", action="store_false", help="an output layer of its own")
    options = vars(parser.parse_args())
    print(write_tiny_model(options.pop("out"), **options))


def write_peft_adapter(model_folder: Path, folder: Path, rank: int) -> Path:
    """Write an adapter with values in it, as PEFT itself does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=rank, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


if __name__ == "__main__":
    main()
