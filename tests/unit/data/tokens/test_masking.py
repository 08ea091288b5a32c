"""Masking choices and long rows, over generated conversations and the chat templates of several model families."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data import MASKINGS, read_dataset
from lora_lab.data.dataset import without_overlap
from lora_lab.data.problems import Problem
from lora_lab.data.row_view import find_row, view_row
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.overlap import find_overlap
from lora_lab.data.rows.schema import Conversation, TextRow
from lora_lab.data.tokens.batches import EncodedRow, encode_row
from lora_lab.data.tokens.mask import mask_conversation
from tests.unit.data.helpers import run
from tests.unit.data.tokens.test_mask import TWO_TURNS, _conversation, _template, _tokenizer, _trained_texts

pytestmark = pytest.mark.unit

# ChatML (SmolLM2's own, and with marks), Llama 3, Gemma, Mistral, Zephyr, Phi-3: how each ends a turn, and whether it
# trims what is said.
ENDS = {"smollm2": "<|im_end|>", "marked_chatml": "<|im_end|>", "llama3_like": "<|eot_id|>",
        "gemma_like": "<end_of_turn>", "mistral_like": "<|im_end|>", "zephyr_like": "<|im_end|>",
        "phi3_like": "<|end|>"}  # fmt: skip
TRIMS = ("llama3_like", "gemma_like", "mistral_like")
SAID = st.text(st.characters(codec="utf-8", exclude_characters="<>\0"), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text and not _tokenizer().lost_bytes(text)
)


@settings(max_examples=200, deadline=None)
@given(
    turns=st.lists(st.tuples(SAID, SAID, st.sampled_from([None, 0, 1])), min_size=1, max_size=4),
    name=st.sampled_from(sorted(ENDS)),
    masking=st.sampled_from(MASKINGS),
)
def test_exactly_what_was_chosen_is_trained(turns: list[tuple], name: str, masking: str) -> None:
    messages = []
    for question, answer, weight in turns:
        messages += [Message("user", question), Message("assistant", answer, weight != 0, {}, weight == 0)]
    row = Conversation(1, tuple(messages))
    result = encode_row(row, _tokenizer(), _template(name), 10_000, masking)  # type: ignore[arg-type]
    answers = [answer for _, answer, weight in turns if weight != 0]
    lead = " " if name == "mistral_like" else ""
    if masking == "all":
        assert isinstance(result, EncodedRow)
        excluded = [lead + answer + ENDS[name] for _, answer, weight in turns if weight == 0]
        left_out = EncodedRow(type(result.example)(result.example.tokens[1:], ~result.example.trained[1:]), 0)
        assert _trained_texts(left_out) == excluded
        return
    if not answers:
        assert isinstance(result, Problem) and result.kind == "nothing-to-train"
        return
    wanted = [lead + answer + ENDS[name] for answer in (answers[-1:] if masking == "last" else answers)]
    assert _trained_texts(result) == wanted


def test_a_mask_of_another_choice_is_another_mask() -> None:
    row = _conversation(*TWO_TURNS)
    masks = [encode_row(row, _tokenizer(), _template("smollm2"), 512, masking) for masking in MASKINGS]
    counts = [int(np.count_nonzero(mask.example.trained)) for mask in masks]  # type: ignore[union-attr]
    assert counts[1] < counts[0] < counts[2] == len(masks[2].example.tokens) - 1  # type: ignore[union-attr]
    assert _trained_texts(masks[1]) == ["Bye.<|im_end|>"]


def test_everything_of_a_prompt_is_trained_too() -> None:
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    raw = json.dumps({"prompt": prompt, "completion": "d"})
    for masking, texts in (("assistant", ["d<|im_end|>"]), ("last", ["d<|im_end|>"])):
        dataset = run(read_dataset(raw, _tokenizer(), _template("smollm2"), 512, masking=masking))
        example = dataset.examples[0]
        assert _trained_texts(EncodedRow(example, 0)) == texts
    whole = run(read_dataset(raw, _tokenizer(), _template("smollm2"), 512, masking="all")).examples[0]
    assert whole.trained[1:].all() and not whole.trained[0]


def test_aligned_masks_say_so() -> None:
    broken = mask_conversation(_conversation(*TWO_TURNS), _tokenizer(), _template("counting_breaks_prefix"))
    plain = mask_conversation(_conversation(*TWO_TURNS), _tokenizer(), _template("smollm2"))
    assert broken.aligned and not plain.aligned
    assert [turn for turn, _, _ in plain.turns] == [1, 3]
    for _, first, stop in plain.turns:
        assert plain.trained[first:stop].all() and not plain.trained[stop] and not plain.trained[first - 1]


def test_long_rows_are_dropped_or_cut_but_never_left_with_nothing() -> None:
    raw = "\n".join(
        json.dumps({"prompt": "a", "completion": "word " * count}) for count in (3, 100)
    ) + "\n" + json.dumps({"prompt": "word " * 100, "completion": "b"})  # fmt: skip
    cut = run(read_dataset(raw, _tokenizer(), _template("smollm2"), 64))
    assert [problem.kind for problem in cut.report.problems] == ["nothing-to-train"]
    assert (len(cut.examples), cut.tokens.truncated, cut.tokens.tokens_cut > 0) == (2, 1, True)
    assert all(example.trained_tokens for example in cut.examples)
    dropped = run(read_dataset(raw, _tokenizer(), _template("smollm2"), 64, on_long="drop"))
    assert [problem.kind for problem in dropped.report.problems] == ["too-long", "too-long"]
    assert (len(dropped.examples), dropped.tokens.truncated) == (1, 0)


ROWS = [
    {"messages": [{"role": "user", "content": "Grüße 👍🏽"}, {"role": "assistant", "content": "hm", "weight": 0},
                  {"role": "user", "content": "and?"}, {"role": "assistant", "content": "日本語!"}]},
    {"text": "a plain text"},
    {"prompt": "long", "completion": "word " * 200},
    {"prompt": "b", "completion": "c"},
]  # fmt: skip


def test_a_rows_view_is_what_is_trained() -> None:
    dataset = run(read_dataset("\n".join(map(json.dumps, ROWS)), _tokenizer(), _template("smollm2"), 100))
    for index, row in enumerate(dataset.rows):
        view = view_row(dataset, index, _tokenizer(), _template("smollm2"), 100)
        example = dataset.examples[index]
        assert list(view.token_ids[: view.kept]) == example.tokens.tolist()
        assert list(view.trained[: view.kept]) == example.trained.tolist()
        assert not any(view.trained[view.kept :])
        whole = _tokenizer().decode(view.token_ids)
        assert "".join(view.texts) == whole
        assert all(text in whole for text in row.texts)
        assert [view.token_ids[i] in _tokenizer().special_ids for i in range(view.kept)] == list(view.special)[
            : view.kept
        ]
        assert view.line == index + 1 and view.notes
        json.dumps(vars(view))
    first = view_row(dataset, 0, _tokenizer(), _template("smollm2"), 100)
    assert any("Message 2 has weight 0" in note for note in first.notes)
    trained = "".join(text for text, is_trained in zip(first.texts, first.trained, strict=True) if is_trained)
    assert trained == "日本語!<|im_end|>"
    cut = view_row(dataset, 2, _tokenizer(), _template("smollm2"), 100)
    assert cut.kept == 100 < len(cut.token_ids) and any("cut off at 100" in note for note in cut.notes)
    with pytest.raises(IndexError):
        view_row(dataset, 4, _tokenizer(), _template("smollm2"), 100)


def test_jumps() -> None:
    dataset = run(read_dataset("\n".join(map(json.dumps, ROWS)), _tokenizer(), _template("smollm2"), 100))
    assert find_row(dataset, "longest", 100) == 2
    assert find_row(dataset, "shortest", 100) == 1
    assert find_row(dataset, "truncated", 100) == 2
    assert find_row(dataset, "truncated", 100, current=2) == 2
    assert find_row(dataset, "truncated", 4000) is None
    assert find_row(dataset, "most-trained", 100) == 1
    seen = {find_row(dataset, "random", 100, current, seed) for current in range(9) for seed in range(9)}
    assert seen == {0, 1, 2, 3}
    empty = run(read_dataset("", _tokenizer(), _template("smollm2"), 100))
    assert find_row(empty, "longest", 100) is None


def test_rows_of_the_validation_file_are_left_out_of_training() -> None:
    training = run(read_dataset("\n".join(map(json.dumps, ROWS)), _tokenizer(), _template("smollm2"), 100))
    validation = run(read_dataset(json.dumps(ROWS[1]), _tokenizer(), _template("smollm2"), 100))
    overlap = run(find_overlap(training.table, validation.table))
    left = without_overlap(training, overlap)
    assert len(left) == 3
    held = {example.tokens.tobytes() for example in validation.examples}
    assert not held & {example.tokens.tobytes() for example in left}
    assert held & {example.tokens.tobytes() for example in training.examples}


def test_text_rows_ignore_the_masking() -> None:
    for masking in MASKINGS:
        result = encode_row(TextRow(1, "one two"), _tokenizer(), None, 512, masking)
        assert isinstance(result, EncodedRow)
        assert result.example.trained.tolist() == [False, *[True] * (len(result.example.tokens) - 1)]
