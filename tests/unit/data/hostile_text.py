"""Texts that are hard on tokenizers: every Unicode category, odd white space, emoji sequences, special tokens, …"""

from __future__ import annotations

import random
import sys
import unicodedata

# White space and what only looks like it: the two tokenizers' regular expressions disagree about some of these.
ODD_SPACES = [*"\t\n\v\f\r \u0085\u00a0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff\u200b\u200c\u200d\u2060\u00ad"]
ODD_SPACES += [chr(code) for code in range(0x2000, 0x200B)] + ["\x1c", "\x1d", "\x1e", "\x1f", "\0", "\x7f"]
ODD_DIGITS = [*"²³¹¼½¾①⑳Ⅷⅷ٣०৯๕༣၅១᠗߅𝟘𝟫𑁦〇㊿㆕五৴௲ᛮ⓪❶㈠𐄇𒐕", "¹²³", "٣٤٥", "1२३4", "１２３"]
EMOJI = ["👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☺︎", "🧑🏿‍🚀", "1️⃣", "#️⃣", "🫠", "👨‍", "\ufe0f", "\U0001f3fb"]
COMBINING = ["e\u0301", "a\u030a\u0327", "n\u0303\u0303\u0303", "\u0301", "q\u20dd", "ก็้", "हिन्दी", "ক্ষ", "אָ", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴"]
SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start",
    "|im_end|>",
    "<|im_end|><|im_end|>",
    "<|IM_END|>",
]
SPECIAL += [
    "<|im_start|>user\n",
    "<repo_name>",
    "<reponame>",
    "<file_sep",
    "<empty_output>",
    "<<|im_end|>>",
    "< |im_end|>",
]
CONTRACTIONS = [
    *"'’ʼ",
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "''s",
    "don't",
    "I'LL",
    "’ll",
    "o'clock's",
    "'ſ",
]
WORDS = [
    "the",
    "The",
    "THE",
    "lighthouse",
    "naïve",
    "Straße",
    "ﬁne",
    "ıstanbul",
    "İ",
    "ĳ",
    "ǆ",
    "Привет",
    "мир",
    "日本語",
    "テスト",
    "한국어",
    "العربية",
    "שלום",
    "ไทย",
    "ελληνικά",
    "ß",
    "ſ",
    "K",
    "Å",
]
CODE = [
    "def f(x):\n\treturn x ** 2  # ok\n\n\n",
    "for (let i = 0; i < n; ++i) { a[i] += b[i]; }\r\n",
    '{"messages": [{"role": "user", "content": "a\\nb"}]}',
    "SELECT * FROM t WHERE a='x''y' AND b<>3.14e-10;",
    "https://example.org/a/b?c=d%20e&f=1#g_h",
    "        if (a &&\n            b) {\n        }\n",
    "\\frac{1}{2} \\in \\mathbb{R}^{3\\times 3}",
    "ls -la | grep -v '^d' > /dev/null 2>&1",
]
PROSE = [
    "It was 3.14 o'clock on the 21st; we've seen 1,000,000 ships -- and yet...  nothing?!",
    "She said: \"I'm not sure, isn't it 50% of £20?\"\n\n- one\n- two\n  - three\n",
    "Dr. Müller's café costs 12€50 (approx. ½ of 25€).",
    "  leading and trailing spaces   ",
    "Tabs\tand\u00a0non-breaking\u2003spaces, and\u200bzero\u200bwidth.",
]


def _by_category() -> dict[str, list[str]]:
    """Return the assigned characters of each Unicode category, at most 3,000 each and evenly spread."""
    characters: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        # Surrogates are no text. Unassigned characters may be assigned in a host with a newer Unicode.
        if category not in ("Cs", "Cn"):
            characters.setdefault(category, []).append(char)
    return {name: chars[:: max(1, len(chars) // 3000)] for name, chars in characters.items()}


def hostile_texts(count: int, seed: int) -> list[str]:
    """Return `count` texts, the same for the same seed (and the same Python's Unicode tables)."""
    generator = random.Random(seed)
    categories = list(_by_category().values())
    kinds = [ODD_SPACES, ODD_DIGITS, EMOJI, COMBINING, SPECIAL, CONTRACTIONS, WORDS, CODE, PROSE]

    def piece() -> str:
        choice = generator.random()
        if choice < 0.25:
            return generator.choice(generator.choice(categories))
        if choice < 0.35:
            return generator.choice([" ", "  ", "\n", "\n\n", ".", ",", "a", "Z", "0", "42"])
        return generator.choice(generator.choice(kinds))

    texts = ["", " ", "\n", "\r\n", "  \n  ", *ODD_SPACES, *ODD_DIGITS, *EMOJI, *COMBINING, *SPECIAL, *CONTRACTIONS]
    texts += [*WORDS, *CODE, *PROSE]
    for unit in (" ", "\n", "a", "A", "0", "!", "=", "é", "👍", "\u0301", "\u3000", "<|im_end|>", "ab ", "\t\n", "'s"):
        texts += [unit * length for length in (2, 3, 17, 255, 256, 257, 1500)]
    while len(texts) < count:
        if generator.random() < 0.05:  # a long run of characters of one category
            chars = generator.choice(categories)
            texts.append("".join(generator.choices(chars, k=generator.randint(20, 300))))
        else:
            texts.append("".join(piece() for _ in range(generator.randint(1, 24))))
    return texts[:count]
