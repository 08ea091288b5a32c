"""What a model is called on the hub: out of a text, and out of a GGUF's metadata without taking its parent for it."""

from __future__ import annotations

from typing import Any

import pytest

from lora_lab.formats.hub_id import hub_id, hub_id_of_gguf

HUB = "https://huggingface.co/"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (" Qwen/Qwen3-0.6B ", "Qwen/Qwen3-0.6B"),
        (HUB + "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("hf.co/Qwen/Qwen3-0.6B/tree/main?x=1", "Qwen/Qwen3-0.6B"),
        *((wrong, None) for wrong in (
            "", "gpt2", "./out/model", "../x", "/home/me/model", "~/models/x", "C:\\x\\y", "a/b/c", "me/model.gguf",
            "me/adapter.safetensors", "a b/c", "https://github.com/a/b", HUB + "datasets/a/b", HUB + "unsloth", None, 5,
            "a/" + "x" * 200, "a--b/c", "\x1b[2J/x",
        )),
    ],
)  # fmt: skip
def test_a_name_is_one_or_none(text: Any, found: str | None) -> None:
    assert hub_id(text) == found


@pytest.mark.parametrize(
    ("metadata", "name", "found"),
    [
        ({"general.repo_url": HUB + "owner/model"}, "x", "owner/model"),
        ({"general.source.huggingface.repository": "owner/model"}, "x", "owner/model"),
        # A repository of GGUF files is no base for PEFT; nor is an owner's page.
        ({"general.repo_url": HUB + "owner/model-GGUF"}, "x", None),
        ({"general.repo_url": HUB + "unsloth", "general.name": "Qwen3-0.6B", "general.base_model.count": 1,
          "general.base_model.0.repo_url": HUB + "Qwen/Qwen3-0.6B"}, "x", "Qwen/Qwen3-0.6B"),
        ({"general.name": "SmolLM2 135M Instruct", "general.finetune": "Instruct",
          "general.base_model.0.repo_url": HUB + "HuggingFaceTB/SmolLM2-135M-Instruct"}, "x",
         "HuggingFaceTB/SmolLM2-135M-Instruct"),
        # The parent of the model that the file holds.
        ({"general.name": "SmolLM2 135M Instruct", "general.finetune": "Instruct",
          "general.base_model.0.repo_url": HUB + "HuggingFaceTB/SmolLM2-135M"}, "SmolLM2-135M", None),
        ({"general.name": "Qwen3 0.6B", "general.base_model.0.repo_url": HUB + "Qwen/Qwen3-0.6B-Base"}, "x", None),
        ({"general.name": "Zephyr 7B Beta", "general.base_model.0.repo_url": HUB + "mistralai/Mistral-7B-v0.1"},
         "zephyr-7b-beta.Q4_K_M", None),
        # Known by the file's name, without what says how it was quantised, or by its parts.
        ({"general.base_model.0.repo_url": HUB + "a/Tiny-1B-Chat"}, "Tiny-1B-Chat.Q4_K_M", "a/Tiny-1B-Chat"),
        ({"general.base_model.0.repo_url": HUB + "a/Tiny-1B-Chat"}, "tiny-1b-chat-IQ4_XS", "a/Tiny-1B-Chat"),
        ({"general.basename": "Tiny", "general.size_label": "1B", "general.finetune": "Chat",
          "general.base_model.0.repo_url": HUB + "a/Tiny-1B-Chat"}, "x", "a/Tiny-1B-Chat"),
        ({"general.base_model.count": 2, "general.name": "b", "general.base_model.0.repo_url": HUB + "a/b"}, "b", None),
        ({"general.base_model.0.repo_url": 5, "general.repo_url": 7, "general.name": 3}, "x", None),
        ({}, "owner/model", None),
    ],
)  # fmt: skip
def test_a_gguf_names_the_model_itself(metadata: dict[str, Any], name: str, found: str | None) -> None:
    assert hub_id_of_gguf(metadata, name) == found
