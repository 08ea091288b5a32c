"""What a message says about its own training: `weight`, `train`, `loss`, `mask`, as one yes or no."""

from __future__ import annotations

from typing import Any

from lora_lab.data.problems import RowError, shown

# Keys whose true or 1 says "train this turn", and those whose true says "hide it from training".
_TRAIN_KEYS = ("weight", "train", "training", "trainable", "loss", "loss_weight", "loss_mask")
_HIDE_KEYS = ("mask", "masked")
FLAG_KEYS = frozenset((*_TRAIN_KEYS, *_HIDE_KEYS))
_WORDS = {"0": False, "0.0": False, "false": False, "no": False, "1": True, "1.0": True, "true": True, "yes": True}


def wish(message: dict[str, Any], name: str) -> bool | None:
    """Return whether a message asks to be trained, None where it says nothing.

    RowError for a value that is neither yes nor no (a fraction, say), or for two keys that say the opposite.
    """
    found: dict[str, bool] = {}
    for key in FLAG_KEYS & message.keys():
        value = message[key]
        if value is not None:
            found[key] = _yes_or_no(value, key, f"{name}.{key}")
    if len(set(found.values())) > 1:
        said = " and ".join(f'"{key}" {shown(repr(message[key]), 40)}' for key in sorted(found))
        raise RowError(f"{name} has {said}, which say the opposite", "leave one of them", "weight")
    return next(iter(found.values()), None)


def _yes_or_no(value: Any, key: str, place: str) -> bool:
    hides = key in _HIDE_KEYS
    plain = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if isinstance(plain, bool):
        return plain != hides
    # As a mask, 1 is the hidden part to some and the trained part to others.
    if not hides and isinstance(plain, (int, float)) and plain in (0, 1):
        return bool(plain)
    wanted = (
        "it must be true (hidden from training) or false" if hides else "it must be 0 (do not train this turn) or 1"
    )
    raise RowError(f"{place} is {shown(repr(value), 40)}", wanted, "weight")
