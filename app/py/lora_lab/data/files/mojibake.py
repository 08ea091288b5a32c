"""UTF-8 that was once read as Latin-1 or Windows-1252 (`PrÃ¨s` for `Près`): found and undone, never guessed at.

A text is damaged when all of it, taken back to the bytes of Latin-1 (and Windows-1252, which gives 27 of the control
characters a sign), is UTF-8, and when at least one place cannot be right as it stands. The second is needed because
right texts pass the first by accident: `CAFÉ :` with a no-break space, `„Spaß…“`, `ÚŽAS`, `NESTLÉ®` hold a letter and a
sign behind it that are a character of UTF-8 too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

# Windows-1252's signs for 0x80 to 0x9F; the other five stay control characters, as browsers read them.
_SIGNS = {bytes([byte]).decode("cp1252"): byte for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d"}
_TO_BYTES = str.maketrans({sign: chr(byte) for sign, byte in _SIGNS.items()})
_NEXT = "\x80-\xbf" + re.escape("".join(_SIGNS))
_MAY_BE = re.compile(f"[\xc2-\xf4][{_NEXT}]")
_MAY_BE_ESCAPED = re.compile(r"\\u00[c-f][0-9a-f]\\u", re.IGNORECASE)
_PLACE = re.compile(f"[\xc2-\xdf][{_NEXT}]|[\xe0-\xef][{_NEXT}]{{2}}|[\xf0-\xf4][{_NEXT}]{{3}}")

_CONTROL = re.compile("[\x80-\x9f]")
# Signs that stand behind no letter; punctuation, marks, currencies, raised figures and letters may.
_NEVER_BEHIND = frozenset("¤¦¨¬¯±µ¶¸¼½¾ƒˆ‰˜")
# Letters and signs that join two words or two parts of one: a small letter behind them means nothing.
_JOINS = frozenset("\xa0\xad‘’“”‚„«»‹›–—…·•ŠŒŽšœžŸªº")
# Behind Æ to Ë stand rare letters in UTF-8, and É, Ç, È, Ê often end a word in capitals.
_RARE = frozenset("ÆÇÈÉÊË")
_SURE_RUN = 4
MAX_CHARACTERS = 1 << 20


def may_be_damaged(text: str) -> bool:
    """Whether a row's JSON could hold such a text: a quick look, with the escapes that ASCII needs."""
    return _MAY_BE_ESCAPED.search(text) is not None if text.isascii() else _may_be(text)


def _may_be(text: str) -> bool:
    return _MAY_BE.search(text) is not None or "\\u00" in text


def undo(text: str) -> str | None:
    """Return the text as it was before it was read as Latin-1; None for one that is right, or may be."""
    right = _taken_back(text)
    return right if right is not None and _is_sure(text) else None


def _taken_back(text: str) -> str | None:
    """Return what a text is whose bytes as Latin-1 are UTF-8; None for another."""
    if text.isascii() or len(text) > MAX_CHARACTERS or _MAY_BE.search(text) is None:
        return None
    try:
        right = text.translate(_TO_BYTES).encode("latin-1").decode("utf-8")
    except ValueError:
        return None
    if not right.strip() or _CONTROL.search(right):  # mended to nothing, a row would be lost
        return None
    return None if any(unicodedata.category(char) in ("Cn", "Co") for char in set(right)) else right


def _is_sure(text: str) -> bool:
    """Whether some place of a text, all of which is UTF-8 as Latin-1, cannot be right as it stands."""
    run, run_end, joined = 0, -1, 0
    for match in _PLACE.finditer(text):
        start, end = match.span()
        run, run_end = (run + 1 if start == run_end else 1), end
        joined += run > 1 and text[end - 1] not in "…–—"
        before, behind = text[start - 1 : start], text[end : end + 1]
        if max(run, joined) >= _SURE_RUN or _cannot_be(match.group(), before, behind, run):
            return True
    return False


def _cannot_be(place: str, before: str, behind: str, run: int) -> bool:
    """Whether a letter and the signs behind it stand in no right text.

    `before` and `behind` are its neighbours, `run` is how many such places stand side by side, up to this one.
    """
    lead, signs = place[0], place[1:]
    if _CONTROL.search(signs):
        return True
    is_inside = behind.isascii() and behind.islower() and not _JOINS.issuperset(signs)  # signs inside a word: "Ã©tat"
    if lead >= "à":  # a small letter and two or three signs
        return is_inside or not _NEVER_BEHIND.isdisjoint(signs) or signs[0] == {"â": "€", "ð": "Ÿ"}.get(lead)
    if lead in "ß×":  # a word's end; a product
        return False
    if before.isascii() and before.islower():  # a capital behind a small letter, a sign behind that: "cafÃ©"
        return True
    if lead in _RARE:
        return False
    if signs in _NEVER_BEHIND or is_inside or (run > 1 and signs not in _JOINS):
        return True
    # Hardly a word ends in Â, and Ã alone is none.
    if lead == "Â":
        return not before.isalpha() and (signs not in _JOINS or signs in "\xa0«»·ªº")
    return lead == "Ã" and not before.isalpha() and (signs in "©€" or (signs == "\xa0" and behind == " "))


def undo_value(value: Any) -> tuple[Any, tuple[str, str] | None]:
    """Return a row's value with the texts of it mended, and the first of them as (damaged, right); None for none.

    Where one text of a row is surely damaged, the others that may be are mended with it.
    """
    found = {text: right for text in _texts(value) if (right := _taken_back(text)) is not None}
    if not any(map(_is_sure, found)):
        return value, None
    return _undone(value, found), next(iter(found.items()))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _undone(value: Any, found: dict[str, str]) -> Any:
    if isinstance(value, str):
        return found.get(value, value)
    if isinstance(value, list):
        return [_undone(item, found) for item in value]
    return {key: _undone(item, found) for key, item in value.items()} if isinstance(value, dict) else value


def first_place(damaged: str) -> int:
    """Return where in a damaged text the first character stands that is not what it was."""
    found = _PLACE.search(damaged)
    return found.start() if found else 0
