"""Unicode's composed forms, NFC and NFKC, as the library `tokenizers` makes them in both hosts: by an older Unicode."""

from __future__ import annotations

import re
import unicodedata

# What newer versions of Unicode, up to 17, have more than the one that `tokenizers` 0.23.3 knows: combining marks, and
# the parts of new compositions. To it they are like letters: nothing moves past them and nothing melts into them.
_TOO_NEW = (
    "\u07fd\u0897-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b\u0d3c\u0eba\u1715\u1abf-\u1add\u1ae0-\u1aeb\u1df6-\u1dfa"
    "\ua82c\U000105c9\U000105d2\U000105da\U000105e4\U00010d24-\U00010d27\U00010d69-\U00010d6d\U00010eab\U00010eac"
    "\U00010efa\U00010efb\U00010efd-\U00010eff\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011070\U0001133b"
    "\U00011383\U00011385\U0001138e\U00011391\U000113b8\U000113bb\U000113c2\U000113c5\U000113c7-\U000113c9"
    "\U000113ce-\U000113d0\U0001145e\U00011839\U0001183a\U00011930\U00011938\U0001193d\U0001193e\U00011943"
    "\U000119e0\U00011a34\U00011a47\U00011a99\U00011d42\U00011d44\U00011d45\U00011d97\U00011f41\U00011f42"
    "\U0001611e-\U00016129\U0001612f\U00016d67-\U00016d6a\U00016ff0\U00016ff1\U0001e08f\U0001e130-\U0001e136"
    "\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef\U0001e5ee\U0001e5ef\U0001e6e3\U0001e6e6\U0001e6ee"
    "\U0001e6ef\U0001e6f5"
)
# … and the characters that NFKC has learned to replace since.
_TOO_NEW_COMPATIBLE = (
    "\u32ff\ua7f1-\ua7f4\uab69\U00010781-\U00010785\U00010787-\U000107b0\U000107b2-\U000107ba"
    "\U0001ccd6-\U0001ccf9\U0001e030-\U0001e06d\U0001f16c\U0001fbf0-\U0001fbf9"
)
_SPLIT_NFC, _SPLIT_NFKC = re.compile(f"([{_TOO_NEW}])"), re.compile(f"([{_TOO_NEW}{_TOO_NEW_COMPATIBLE}])")


def nfc(text: str) -> str:
    """Return the text in Unicode's composed form."""
    if unicodedata.is_normalized("NFC", text):
        return text
    return "".join([unicodedata.normalize("NFC", part) for part in _SPLIT_NFC.split(text)])


def nfkc(text: str) -> str:
    """Return the text in Unicode's composed form, characters that only look different made one."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    # What NFKC would replace stays as it is, what it would move or compose stays where it is.
    return "".join(
        [
            part if index % 2 else unicodedata.normalize("NFKC", part)
            for index, part in enumerate(_SPLIT_NFKC.split(text))
        ]
    )
