"""The encodings that a file can be in which is not UTF-8: a person's choice, with a look at what each makes of it."""

from __future__ import annotations

import codecs
import unicodedata
from dataclasses import dataclass

# What a person chooses: Python's codec, and what it is called.
CHOICES = {
    "cp1252": ("cp1252", "Windows, Western Europe"),
    "mac-roman": ("mac_roman", "Macintosh"),
    "cp1250": ("cp1250", "Windows, Central Europe"),
    "cp1251": ("cp1251", "Windows, Cyrillic"),
    "shift-jis": ("cp932", "Japanese"),
    "gb18030": ("gb18030", "Chinese"),
    "euc-kr": ("cp949", "Korean"),
}
_MANY_BYTES = ("shift-jis", "gb18030", "euc-kr")
_BETWEEN = 3  # of their texts at least every third byte is no ASCII


@dataclass(frozen=True)
class EncodingPreview:
    """What the place where a file is not UTF-8 reads like in one of the encodings of CHOICES."""

    name: str
    label: str
    text: str


def codec_of(name: str) -> str:
    """Return Python's name for one of CHOICES."""
    return CHOICES[name][0]


def label_of(name: str) -> str:
    """Return what one of CHOICES is called: `cp1252 (Windows, Western Europe)`."""
    return f"{name} ({CHOICES[name][1]})"


def previews(raw: bytes) -> tuple[EncodingPreview, ...]:
    """Return what the bytes around a place that is no UTF-8 read like, in each encoding that has them all."""
    found = []
    high = sum(byte >= 0x80 for byte in raw)
    for name, (codec, label) in CHOICES.items():
        if not high or (name in _MANY_BYTES and high * _BETWEEN < len(raw)):
            continue
        # A character of several bytes may be cut at either end.
        text = next((text for cut in range(4) if (text := _decoded(raw[cut:], codec)) is not None), None)
        if text is not None:
            found.append(EncodingPreview(name, label, text))
    return tuple(found)


def _decoded(raw: bytes, codec: str) -> str | None:
    try:
        text = codecs.getincrementaldecoder(codec)().decode(raw, final=False)
    except UnicodeDecodeError:
        return None
    odd = any(unicodedata.category(char) in ("Cc", "Cn", "Co") and char not in "\t\r" for char in text)
    return None if odd else text.replace("\t", " ").strip()
