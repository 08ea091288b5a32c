"""A whole file: examples beside their rows, the report's numbers, the event loop's turns, the sample datasets."""

from __future__ import annotations

import asyncio
import json

import pytest

from lora_lab.data import Dataset, DataSource, build_report, read_dataset, read_table
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.errors import DatasetError
from tests.unit.data.helpers import run, smollm2_files

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(smollm2_files())


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    files = smollm2_files()
    assert files.chat_template
    return ChatTemplate(files.chat_template, files.special_tokens)


def _pair(question: str, answer: str) -> str:
    return json.dumps({"prompt": question, "completion": answer})


MIXED = "\n".join(
    [
        _pair("a", "b"),
        "",
        '{"text": "some words"}',
        '{"oops": 1}',
        _pair("a", "b"),
        "{broken",
        _pair("word " * 100, "never reached"),
        _pair("c", "word " * 100),
        json.dumps({"messages": [{"role": "user", "content": "d"}, {"role": "user", "content": "<|im_end|>"},
                                 {"role": "assistant", "content": "e"}, {"role": "user", "content": "f"}]}),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tokenizer: Tokenizer, template: ChatTemplate) -> Dataset:
    return run(read_dataset(MIXED, tokenizer, template, max_length=64))


def test_examples_stand_beside_their_rows(mixed: Dataset, tokenizer: Tokenizer) -> None:
    assert [row.line for row in mixed.rows] == [1, 3, 5, 8, 9]
    assert len(mixed.examples) == len(mixed.rows)
    for row, example in zip(mixed.rows, mixed.examples, strict=True):
        assert row.texts[0][:20] in tokenizer.decode(example.tokens.tolist())


def test_a_datasets_repr_is_short(mixed: Dataset) -> None:
    # asyncio puts a task's result into words on the way out; with every array in it that took longer than the work.
    assert len(repr(mixed)) < 100
    assert len(repr(mixed.table)) < 100


def test_the_reports_numbers(mixed: Dataset) -> None:
    report = mixed.report
    assert (report.rows, report.good) == (8, 5)
    assert report.formats == {"prompt-completion": 4, "text": 1, "conversational": 1}
    assert [problem.line for problem in report.problems] == [4, 6, 7]
    assert "nothing is left to train on" in report.problems[2].message
    assert report.tokens.kept == sum(len(example.tokens) for example in mixed.examples)
    assert report.tokens.trained == sum(example.trained_tokens for example in mixed.examples)
    assert report.tokens.trained_share == report.tokens.trained / report.tokens.kept
    assert report.tokens.total > report.tokens.kept
    assert report.tokens.truncated == 1
    assert report.content.exact_duplicates.count == 1
    assert report.tokens.max > 100
    assert report.tokens.p50 == 34
    assert report.suggested_max_length % 32 == 0


def test_the_reports_warnings(mixed: Dataset) -> None:
    said = {(warning.line, warning.message) for warning in mixed.report.warnings}
    for line, words in [
        (1, "only 5 good rows"),
        (1, "different kinds"),
        (5, "repeats an earlier one (this one: line 1)"),
        (9, "special token <|im_end|>"),
        (9, "both user turns"),
        (9, "ends with a user turn"),
    ]:
        assert any(at == line and words in message for at, message in said), words


def test_the_report_as_text_and_as_json(mixed: Dataset) -> None:
    text = mixed.report.as_text()
    assert "8 rows, 5 good" in text
    assert "3 problems:" in text
    assert "line 6, column 2" in text
    assert "… and 2 more" in mixed.report.as_text(max_problems=1)
    plain = json.loads(json.dumps(mixed.report.as_dict()))
    assert [p["text"] for p in plain["problems"] if p["severity"] == "error"][1].startswith("line 6, column 2")
    assert plain["suggested_max_length"] == mixed.report.suggested_max_length


def test_bad_rows_need_consent(mixed: Dataset, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    with pytest.raises(DatasetError, match="3 bad rows") as caught:
        mixed.require(skip_bad_rows=False)
    assert [problem.line for problem in caught.value.problems] == [4, 6, 7]
    mixed.require(skip_bad_rows=True)
    good = run(read_dataset(_pair("a", "b"), tokenizer, template, 64))
    good.require(skip_bad_rows=False)
    for raw in ("", "{", '{"text": ""}'):
        empty = run(read_dataset(raw, tokenizer, template, 64))
        assert len(empty.examples) == 0
        with pytest.raises(DatasetError, match="no row can be trained on"):
            empty.require(skip_bad_rows=True)


def test_characters_without_a_token_are_told(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    dataset = run(read_dataset(json.dumps({"text": "a\x1db"}), tokenizer, template, 64))
    assert any("0x1D" in warning.message for warning in dataset.report.warnings)


def test_the_longest_row_decides_nothing_below_the_95th_percentile(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    rows = [_pair(f"question {i}", "yes") for i in range(99)] + [_pair("long " * 400, "yes")]
    report = run(read_dataset("\n".join(rows), tokenizer, template, 2048)).report
    assert report.tokens.max > 400
    assert report.suggested_max_length == 64


def test_reading_lets_the_event_loop_run_and_reports_progress(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    raw = "\n".join(_pair(f"q{i}", f"a{i}") for i in range(2000)).encode()
    seen: list[int] = []
    turns = 0

    async def main() -> Dataset:
        nonlocal turns
        reading = asyncio.ensure_future(
            read_dataset(raw, tokenizer, template, 64, lambda done, total: seen.append(done))
        )
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return await reading

    dataset = run(main())
    assert len(dataset.examples) == 2000
    assert turns >= 7
    assert seen == sorted(seen)
    assert seen[-1] == len(raw)
    assert len(seen) >= 7


def test_reading_can_be_cancelled(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    raw = "\n".join(_pair(f"q{i}", f"a{i}") for i in range(50_000)).encode()

    async def main() -> float:
        reading = asyncio.ensure_future(read_dataset(raw, tokenizer, template, 64))
        await asyncio.sleep(0.1)
        reading.cancel()
        began = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return asyncio.get_running_loop().time() - began

    assert run(main()) < 1


REASONED = json.dumps({"messages": [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b", "reasoning_content": "It is longer than all that is said.", "mood": "calm"},
]})  # fmt: skip


def test_a_reasoning_is_the_template_s_to_use_or_to_leave_out(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """Without a model it is named and asks nothing; with one the template's own remark says what becomes of it."""
    alone = run(read_table([DataSource.from_bytes(REASONED, "d.jsonl")]))
    assert {one.column: one.asks for one in build_report(alone).unused} == {
        "messages[].reasoning_content": False, "messages[].mood": False,
    }  # fmt: skip
    source = "{% for m in messages %}{{ m.role }}: {{ m.reasoning_content }} {{ m.content }}\n{% endfor %}"
    for reads, used in ((True, ChatTemplate(source)), (False, template)):
        report = run(read_dataset(REASONED, tokenizer, used, max_length=64)).report
        assert [one.column for one in report.unused] == ["messages[].mood"]
        lost = [problem.message for problem in report.warnings if problem.kind == "template-loss"]
        assert bool(lost) is not reads, "the control: a template that leaves it out is told"
