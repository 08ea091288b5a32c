"""The everyday rows: two sets that share nothing, how they are mixed in, and what is said of what was measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from lora_lab.data.rows.row import Conversation, TextRow
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.evaluation.neutral import (
    ASKED,
    FOLDER,
    advice,
    asked,
    encode_neutral,
    in_words,
    mix_in,
    mixed_count,
    mixed_indices,
    neutral_rows,
    sum_up,
    words_of,
)
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import open_model

Parts = tuple[Tokenizer, ChatTemplate]


@pytest.fixture(scope="module")
def parts(tiny_model_folder: Path) -> Parts:
    files = asyncio.run(open_model(sources_from_path(tiny_model_folder))).tokenizer
    assert files.chat_template is not None
    return load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens)


@pytest.mark.parametrize("which", ["measured", "mixed"])
def test_there_are_some_dozens_of_questions_and_texts(which: str) -> None:
    rows = neutral_rows(which)  # type: ignore[arg-type]
    talks = [row for row in rows if isinstance(row, Conversation)]
    texts = [row for row in rows if isinstance(row, TextRow)]
    assert len(talks) >= 24 and len(texts) >= 10 and len(talks) + len(texts) == len(rows)
    assert all([message.role for message in row.messages] == ["user", "assistant"] for row in talks)
    assert {path.name for path in FOLDER.iterdir()} == {"measured.jsonl", "mixed.jsonl", "README.md"}


def test_what_is_measured_is_never_trained_on() -> None:
    measured, mixed = (
        {text.casefold() for row in neutral_rows(which) for text in row.texts} for which in ("measured", "mixed")
    )  # type: ignore[arg-type]
    assert not measured & mixed
    assert len(measured) + len(mixed) == sum(
        len(row.texts) for which in ("measured", "mixed") for row in neutral_rows(which)
    )  # type: ignore[arg-type]


def test_the_share_is_of_all_rows() -> None:
    assert mixed_count(90, 0.1) == 10
    assert mixed_count(40, 0.5) == 40
    assert mixed_count(40, 0.0) == 0
    assert mixed_count(1, 0.1) == 0


def test_no_row_comes_twice_before_all_came_once() -> None:
    chosen = mixed_indices(40, 100, seed=3)
    assert len(chosen) == 100
    assert sorted(chosen[:40]) == sorted(chosen[40:80]) == list(range(40))
    assert chosen[:40] != chosen[40:80]
    assert mixed_indices(40, 100, seed=3) == chosen != mixed_indices(40, 100, seed=4)
    assert mixed_indices(0, 5, seed=0) == []


def test_mixed_rows_stand_behind_the_runs_own(parts: Parts) -> None:
    own = encode_neutral(neutral_rows("measured"), *parts, 512).examples
    mixed = encode_neutral(neutral_rows("mixed"), *parts, 512)
    together, count = mix_in(own, mixed, 0.5, seed=1)
    assert count == len(own) and len(together) == 2 * len(own)
    for index in range(len(own)):
        np.testing.assert_array_equal(together[index].tokens, own[index].tokens)
        np.testing.assert_array_equal(together[index].trained, own[index].trained)
    order = mixed_indices(len(mixed.examples), count, seed=1)
    for index, place in enumerate(order):
        np.testing.assert_array_equal(together[len(own) + index].tokens, mixed.examples[place].tokens)
        np.testing.assert_array_equal(together[len(own) + index].trained, mixed.examples[place].trained)
    assert list(together.input_lengths) == [one.input_length for one in together]
    # Also behind a choice of rows that shares its tokens with others.
    some, _ = mix_in(own.subset([5, 2]), mixed, 0.5, seed=1)
    assert [len(one.tokens) for one in some][:2] == [len(own[5].tokens), len(own[2].tokens)]
    assert mix_in(own, mixed, 0.0, seed=1) == (own, 0)


def test_rows_are_cut_as_a_runs_own_are_and_left_out_where_nothing_is_trained(parts: Parts) -> None:
    whole = encode_neutral(neutral_rows("measured"), *parts, 512)
    assert len(whole.rows) == len(neutral_rows("measured"))
    short = encode_neutral(neutral_rows("measured"), *parts, 40)
    assert max(short.examples.sizes) == 40
    assert 0 < len(short.rows) < len(whole.rows)  # a question alone has more tokens
    assert all(one.trained_tokens for one in short.examples)


def test_without_a_template_only_texts_are_left(parts: Parts) -> None:
    found = encode_neutral(neutral_rows("measured"), parts[0], None, 512)
    assert found.rows and all(isinstance(row, TextRow) for row in found.rows)
    assert asked(found) == []


def test_another_masking_trains_the_questions_too(parts: Parts) -> None:
    rows = neutral_rows("mixed")[:3]
    answers = encode_neutral(rows, *parts, 512)
    everything = encode_neutral(rows, *parts, 512, "all")
    assert everything.examples.trained_counts.sum() > answers.examples.trained_counts.sum()


def test_what_was_measured_is_weighed_by_tokens(parts: Parts) -> None:
    encoded = encode_neutral(neutral_rows("measured")[:2], *parts, 512)
    found = sum_up(encoded, [1.0, 2.0], [1.5, 2.0])
    a, b = (one.trained_tokens for one in encoded.examples)
    assert found.base == pytest.approx((a + 2 * b) / (a + b)) != 1.5
    assert found.rose == pytest.approx(0.5 * a / (a + b))
    assert [row.words for row in found.rows] == [words_of(row) for row in encoded.rows]
    assert found.tokens == a + b


@pytest.mark.parametrize(
    ("rose", "words", "ways"),
    [(-0.5, "better", 0), (0.0, "next to nothing", 0), (0.0999, "next to nothing", 0), (0.1, "something", 2),
     (0.39, "something", 2), (0.4, "much", 5), (9.0, "much", 5)],
)  # fmt: skip
def test_advice_comes_with_what_was_unlearned(rose: float, words: str, ways: int) -> None:
    assert words in in_words(rose)
    said = advice(rose)
    assert len(said) == ways
    assert not ways or any("--mix-neutral" in one for one in said)
    assert ways < 5 or "learning rate" in said[0]


def test_the_first_questions_are_asked(parts: Parts) -> None:
    encoded = encode_neutral(neutral_rows("measured"), *parts, 512)
    found = asked(encoded)
    assert len(found) == ASKED
    assert found[0] == ("What is the capital of France?", "The capital of France is Paris.")
