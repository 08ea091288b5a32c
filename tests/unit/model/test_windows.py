"""Which layers have a window, as transformers' settings say it; what a folder of another kind is told."""

from __future__ import annotations

from typing import Any

import pytest

from lora_lab.formats.hf_config import HfConfig
from lora_lab.model.families import qwen2
from tests.tiny_families import tiny_config

SWITCHED_ON = {"use_sliding_window": True, "sliding_window": 16}


def windows(family: str, **changes: Any) -> list[int | None]:
    config = tiny_config(family, num_hidden_layers=4, **changes)
    return [layer.window for layer in config.layers] or [None] * 4


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"max_window_layers": 2}, [None, None, 16, 16]),
        ({"max_window_layers": 0}, [16] * 4),
        ({"max_window_layers": 9}, [None] * 4),
        ({"layer_types": ["sliding_attention", "full_attention"] * 2}, [16, None, 16, None]),
        ({"use_sliding_window": False, "max_window_layers": 0}, [None] * 4),
    ],
)
def test_qwen(family: str, changes: dict[str, Any], wanted: list[int | None]) -> None:
    assert windows(family, **{**SWITCHED_ON, **changes}) == wanted


def test_smollm3() -> None:
    assert windows("smollm3", **SWITCHED_ON) == [None, None, None, 16], "where it does not turn"
    assert windows("smollm3", **SWITCHED_ON | {"use_sliding_window": False}) == [None] * 4


@pytest.mark.parametrize("value", [-1, True, "2", 1.5])
def test_what_is_no_number_of_layers_is_named(value: object) -> None:
    config = HfConfig({**SWITCHED_ON, "max_window_layers": value}, {})
    assert qwen2.read_layers(config, 4) == ()
    assert "max_window_layers" in config.problems[0] and "at least 0" in config.problems[0]
