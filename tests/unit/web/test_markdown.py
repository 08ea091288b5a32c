"""Markdown of a reply as blocks of HTML, before DOMPurify (tests/browser/test_chat.py has what is shown)."""

from __future__ import annotations

import pytest

from tests.web import run_module


def blocks(*texts: str) -> list[list[str]]:
    """The blocks of each text."""
    made: list[list[str]] = run_module(
        "chat/markdown.ts", "answer(texts.map((text) => page.draw(text).blocks));", more={"texts": list(texts)}
    )
    return made


def test_what_is_written_already_stays_while_more_comes() -> None:
    whole = "A *first* block.\n\n- one\n- two\n\n> said\n\nThe last"
    cuts = [blocks(whole[:length])[0] for length in (17, 31, 39, len(whole))]
    assert [len(cut) for cut in cuts] == [1, 2, 3, 4]
    for cut in cuts:
        assert cut[0] == "<p>A <em>first</em> block.</p>\n"
    assert cuts[2][:2] == cuts[3][:2]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("# a\n### b\n###### c\n# d\n## e", "34534"),
        ("#### a\n# b", "33"),
        ("## a\n## b\n### c", "334"),
        ("# a\n## b\n### c\n#### d\n##### e", "34566"),
    ],
)
def test_headings_go_one_level_deeper_at_a_time(text: str, levels: str) -> None:
    """Below the panel's own, which is the second: what follows h3 may be h4, not h5."""
    found = [block[2] for block in blocks(text)[0] if block.startswith("<h")]
    assert "".join(found) == levels
    assert all(f"</h{level}>" in block for level, block in zip(levels, blocks(text)[0], strict=True))


def test_nothing_that_a_model_writes_is_markup() -> None:
    attempts = [
        '<img src=x onerror="a()">',
        "```<b>\n</code><script>a()</script>\n```",
        "![<b>x</b>](y)",
        "[a](javascript:a())",
    ]
    for (made,) in blocks(*attempts):
        for wrong in ("<img", "<script", "<b>", 'javascript:a()"', 'onerror="'):
            assert wrong not in made, made


def test_code_has_its_language_and_what_is_open_is_code_already() -> None:
    named, open_, plain = blocks("```python extra\nx = 1 < 2\n```", "```js\nlet a", "    four\n")
    assert "<span>python</span>" in named[0] and "<code>x = 1 &lt; 2\n</code>" in named[0]
    assert "<span>js</span>" in open_[0] and "<code>let a" in open_[0]  # while it is being written
    assert "<span>code</span>" in plain[0] and "<code>four\n</code>" in plain[0]


def test_columns_say_their_side_without_a_style() -> None:
    ((table,),) = blocks("| a | b | c |\n|:-:|--:|---|\n| 1 | 2 | 3 |")
    assert 'style="' not in table
    assert '<th align="center">a</th>' in table and '<td align="right">2</td>' in table and "<td>3</td>" in table


WRITTEN = """# One
Some *text*
going on

## Two
- a
- b

  c
1. x
   ```js
   y

   z
   ```

> said
lazily

| a | b |
|---|--:|
| 1 | 2 |

A line
===

```
open
```
    no code
    here

#### Three, with [a link](https://elsewhere.test)
***
end"""
DEFINED = "[One][name]\n\nand [two][name]\n\n[name]: https://elsewhere.test\n\nand [three][name]"


@pytest.mark.parametrize("text", [WRITTEN, DEFINED])
def test_what_comes_piece_by_piece_is_what_comes_at_once(text: str) -> None:
    """At every length, in pieces of several sizes. Only the last block is looked at again, where no link is defined."""
    told = run_module(
        "chat/markdown.ts",
        """
        const wrong = [];
        let most = 0;
        for (const size of [1, 3, 10]) {
          let drawn;
          for (let length = size; length < text.length + size; length += size) {
            const some = text.slice(0, length);
            drawn = page.draw(some, drawn);
            if (JSON.stringify(drawn.blocks) !== JSON.stringify(page.draw(some).blocks)) wrong.push([size, length]);
            most = Math.max(most, some.length - drawn.open);
          }
        }
        const other = page.draw("Another text", page.draw(text)).blocks;
        answer({ wrong, most, other });
        """,
        more={"text": text},
    )
    assert told["wrong"] == []
    assert (told["most"] < len(text) / 2) == (text == WRITTEN)
    assert told["other"] == ["<p>Another text</p>\n"]
