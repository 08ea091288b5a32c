"""A tiny random model of each family, in a Hugging Face folder as transformers writes it, and as its converter's GGUF.

Everything that tells a family from a Llama is small enough to be met by a text of a few dozen tokens: windows of 16,
an original context of 32. Norms, biases and scales are not trivial, so that a forgotten one is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_lab.config import ModelConfig
from lora_lab.formats.hf_config import HfConfig
from lora_lab.model.families import of_model_type
from tests.tiny_model import CHAT_TEMPLATE, build_tokenizer

VOCAB_SIZE, WINDOW = 384, 16
_SMALL = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip

# Our name -> (transformers' class of settings, what of them is not in _SMALL).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("MistralConfig", {"sliding_window": WINDOW, "head_dim": 32}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": (
        "Qwen3Config",
        {"head_dim": 32, "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": WINDOW,
         "max_window_layers": 1},
    ),
    "gemma2": (
        "Gemma2Config",
        {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": WINDOW, "attn_logit_softcapping": 3.0,
         "final_logit_softcapping": 5.0},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": WINDOW, "num_hidden_layers": 7},
    ),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": WINDOW}),
    "granite": (
        "GraniteConfig",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.22, "attention_multiplier": 0.11,
         "logits_scaling": 2.0},
    ),
    "olmo2": ("Olmo2Config", {}),
    "phi3": (
        "Phi3Config",
        {"sliding_window": WINDOW, "original_max_position_embeddings": 800, "num_attention_heads": 2,
         "max_position_embeddings": 1600,
         "num_key_value_heads": 1, "rope_parameters": {
             "rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75,
             "original_max_position_embeddings": 800, "short_factor": [1.0 + 0.05 * i for i in range(12)],
             "long_factor": [1.0 + 0.5 * i for i in range(12)]}},
    ),
    "lfm2": (
        "Lfm2Config",
        {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"], "num_hidden_layers": 5,
         "intermediate_size": 120, "block_ffn_dim_multiplier": 1.1, "block_multiple_of": 32},
    ),
}  # fmt: skip

# What GGUF does not carry, as its readers take it.
IN_GGUF: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "qwen3": {"use_sliding_window": False},
    "smollm3": {"use_sliding_window": False},
    "gemma2": {"query_pre_attn_scalar": 32},
    "gemma3": {"query_pre_attn_scalar": 32},
}


def tiny_config(family: str, **changes: Any) -> ModelConfig:
    """Return the settings of a family's tiny model, as they are read from its config.json."""
    import transformers

    kind, particular = FAMILIES[family]
    written = HfConfig(getattr(transformers, kind)(**{**_SMALL, **particular, **changes}).to_dict(), {})
    found = of_model_type(written.get("model_type"))
    assert not isinstance(found, str), found
    config = found.read_hf(written, family)
    assert config is not None, written.problems
    return config


def write_tiny_family(folder: Path, family: str, seed: int = 0, init_std: float = 0.08, **changes: Any) -> Path:
    """Write a random model of a family with its tokenizer, and return the folder."""
    import torch
    import transformers

    kind, particular = FAMILIES[family]
    config = getattr(transformers, kind)(**{**_SMALL, **particular, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                # About 1 for those that multiply by their gain, about 0 for those that multiply by 1 + gain.
                parameter.copy_(parameter + 0.2 * noise)
            else:
                large = name.endswith((".bias", "conv.conv.weight"))
                parameter.copy_((0.3 if large else init_std) * noise)
    model.generation_config = transformers.GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(VOCAB_SIZE),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder
