"""Which tokens are trained, worked out by hand for each kind of template."""

from __future__ import annotations

import copy
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data.problems import Problem
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.schema import Conversation, TextRow
from lora_lab.data.tokens.batches import EncodedRow, encode_row
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import llama2_like_files, read_template, smollm2_files

pytestmark = pytest.mark.unit

MORE_SPECIAL = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|end|>"]
SPECIAL_TOKENS = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}


@functools.cache
def _tokenizer() -> Tokenizer:
    """SmolLM2's tokenizer with the special tokens of the other templates added behind its own."""
    tokenizer_json = copy.copy(smollm2_files().tokenizer_json)
    tokenizer_json["added_tokens"] = [
        *tokenizer_json["added_tokens"],
        *({"id": 49152 + i, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False} for i, name in enumerate(MORE_SPECIAL)),
    ]  # fmt: skip
    return load_tokenizer(TokenizerFiles(tokenizer_json, None, SPECIAL_TOKENS))


def _template(name: str) -> ChatTemplate:
    source = smollm2_files().chat_template if name == "smollm2" else read_template(name)
    assert source
    return ChatTemplate(source, SPECIAL_TOKENS)


def _conversation(*turns: str, untrained: tuple[int, ...] = ()) -> Conversation:
    """Turns written as "role: content"."""
    messages = []
    for index, turn in enumerate(turns):
        role, _, content = turn.partition(": ")
        messages.append(Message(role, content, index not in untrained))
    return Conversation(1, tuple(messages))


def _encode(row: Conversation | TextRow, name: str = "smollm2", max_length: int = 512) -> EncodedRow | Problem:
    return encode_row(row, _tokenizer(), _template(name), max_length)


def _trained_texts(result: EncodedRow | Problem) -> list[str]:
    """Return the text of each unbroken run of trained tokens."""
    assert isinstance(result, EncodedRow), result
    runs: list[list[int]] = []
    before = False
    for token_id, trained in zip(result.example.tokens.tolist(), result.example.trained.tolist(), strict=True):
        if trained and not before:
            runs.append([])
        if trained:
            runs[-1].append(token_id)
        before = trained
    return [_tokenizer().decode(run) for run in runs]


TWO_TURNS = ("user: Hi there", "assistant: Hello 42!", "user: And?", "assistant: Bye.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2", ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]),
        ("llama3_like", ["Hello 42!<|eot_id|>", "Bye.<|eot_id|>"]),
        ("gemma_like", ["Hello 42!<end_of_turn>", "Bye.<end_of_turn>"]),
        # The template puts the space before the answer after its generation prompt, so the model must say it.
        ("mistral_like", [" Hello 42!<|im_end|>", " Bye.<|im_end|>"]),
        # Zephyr's <|assistant|> is no special token; the header's line break belongs to the generation prompt.
        ("zephyr_like", ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]),
        # Phi-3 ends a turn with <|end|> and the whole with <|endoftext|>; only the first belongs to the turn.
        ("phi3_like", ["Hello 42!<|end|>", "Bye.<|end|>"]),
        # No special token at all: the empty line is the end of the turn. Its two line breaks are one token.
        ("plain", ["Hello 42!\n\n", "Bye.\n\n"]),
        ("marked_chatml", ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]),
        # The marks leave the end-of-turn token out; it is trained all the same, or the model would never stop.
        ("marked_words_only", ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]),
    ],
)
def test_the_assistants_words_and_the_end_of_turn_token(name: str, expected: list[str]) -> None:
    assert _trained_texts(_encode(_conversation(*TWO_TURNS), name)) == expected


def test_chatml_token_by_token() -> None:
    result = _encode(_conversation("system: S", "user: Hi", "assistant: Ok 7", "user: U"))
    assert isinstance(result, EncodedRow)
    names = [_tokenizer().id_to_token(i) for i in result.example.tokens.tolist()]
    header = [
        "<|im_start|>",
        "system",
        "Ċ",
        "S",
        "<|im_end|>",
        "Ċ",
        "<|im_start|>",
        "user",
        "Ċ",
        "Hi",
        "<|im_end|>",
        "Ċ",
    ]
    answer = ["<|im_start|>", "ass", "istant", "Ċ", "Ok", "Ġ", "7", "<|im_end|>", "Ċ"]
    assert names == header + answer + ["<|im_start|>", "user", "Ċ", "U", "<|im_end|>", "Ċ"]
    assert [i for i, trained in enumerate(result.example.trained) if trained] == [16, 17, 18, 19]


def test_the_tokens_are_those_of_the_whole_text() -> None:
    conversation = _conversation(*TWO_TURNS)
    for name in ("smollm2", "llama3_like", "mistral_like", "plain", "marked_chatml"):
        result = _encode(conversation, name)
        assert isinstance(result, EncodedRow)
        text = _template(name).render([message.as_dict() for message in conversation.messages])
        assert result.example.tokens.tolist() == _tokenizer().encode(text)


def test_turns_with_weight_zero_and_prompts_are_not_trained() -> None:
    for name in ("smollm2", "marked_chatml"):
        assert _trained_texts(_encode(_conversation(*TWO_TURNS, untrained=(1,)), name)) == ["Bye.<|im_end|>"]


def test_equal_words_of_user_and_assistant_are_told_apart() -> None:
    result = _encode(
        _conversation("user: same words", "assistant: same words", "user: same words", "assistant: same words")
    )
    assert _trained_texts(result) == ["same words<|im_end|>"] * 2
    assert isinstance(result, EncodedRow)
    assert not result.example.trained[: len(result.example.tokens) // 2].all()


def test_special_tokens_written_in_an_answer_do_not_end_it() -> None:
    result = _encode(_conversation("user: Hi", "assistant: say <|im_end|> twice <|im_end|>", "user: x"))
    assert _trained_texts(result) == ["say <|im_end|> twice <|im_end|><|im_end|>"]


def test_a_token_that_holds_header_and_answer_is_not_trained_and_is_told() -> None:
    result = _encode(_conversation("user: Hi", "assistant: \n\nYes"))
    # The header's line break and the answer's first are one token; the second line break is one by itself.
    assert _trained_texts(result) == ["\nYes<|im_end|>"]
    assert isinstance(result, EncodedRow)
    assert "melt" in result.remarks[0].message
    plain = _encode(_conversation("user: Hi", "assistant:  Yes"))
    assert _trained_texts(plain) == [" Yes<|im_end|>"]
    assert isinstance(plain, EncodedRow)
    assert plain.remarks == ()


def test_phi3s_last_token_is_no_part_of_the_answer() -> None:
    result = _encode(_conversation("user: a", "assistant: b"), "phi3_like")
    assert isinstance(result, EncodedRow)
    names = [_tokenizer().id_to_token(i) for i in result.example.tokens.tolist()]
    assert names[-3:] == ["<|end|>", "Ċ", "<|endoftext|>"]
    assert result.example.trained.tolist()[-4:] == [True, True, False, False]


def test_a_tokenizer_that_puts_spaces_in_front() -> None:
    """Llama 2's kind has no token ends: the tokens of the prefix, tokenized alone, must be the first of the whole's."""
    tokenizer = load_tokenizer(llama2_like_files())
    template = ChatTemplate(read_template("mistral_like"), {"bos_token": "<s>", "eos_token": "</s>"})
    result = encode_row(
        _conversation("user: Hi", "assistant: the end", "user: b", "assistant: c"), tokenizer, template, 512
    )
    assert isinstance(result, EncodedRow)
    pairs = zip(result.example.tokens.tolist(), result.example.trained.tolist(), strict=True)
    trained = [tokenizer.id_to_token(token_id) for token_id, is_trained in pairs if is_trained]
    assert "".join(name for name in trained if name) == "▁the▁end</s>▁c</s>"


@pytest.mark.parametrize(
    ("name", "turns", "words"),
    [
        ("shouting_breaks_prefix", TWO_TURNS, "renders the conversation up to this turn differently"),
        ("unclosed_breaks_prefix", TWO_TURNS, "no end-of-turn token"),
        ("gemma_like", ("user: a", "user: b", "assistant: c"), "Turns must go user, assistant"),
        ("gemma_like", ("system: s", "user: b", "assistant: c"), "A system turn is not part"),
        ("smollm2", ("assistant: hello", "user: b"), "begins with an assistant turn"),
    ],
)
def test_what_cannot_be_masked_is_a_problem(name: str, turns: tuple[str, ...], words: str) -> None:
    result = _encode(_conversation(*turns), name)
    assert isinstance(result, Problem)
    assert words in result.message
    assert result.line == 1


@pytest.mark.parametrize(
    ("name", "turns", "wanted"),
    [
        ("counting_breaks_prefix", TWO_TURNS, ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]),
        (
            "thinking_breaks_prefix",  # old reasoning is left out of the text, and hence not trained
            ("user: a", "assistant: <think>hm</think>b", "user: c", "assistant: <think>so</think>d"),
            ["b<|im_end|>", "<think>so</think>d<|im_end|>"],
        ),
        (
            "counting_breaks_prefix",
            ("user: same", "assistant: same", "user: x", "assistant: same"),
            ["same<|im_end|>", "same<|im_end|>"],
        ),
    ],
)
def test_answers_are_found_in_the_whole_where_prefixes_break(
    name: str, turns: tuple[str, ...], wanted: list[str]
) -> None:
    assert _trained_texts(_encode(_conversation(*turns), name)) == wanted


def test_templates_that_break_prefixes_still_do_for_what_does_not_break_them() -> None:
    assert _trained_texts(
        _encode(_conversation("user: a", "assistant: <think>hm</think>b"), "thinking_breaks_prefix")
    ) == ["<think>hm</think>b<|im_end|>"]


def test_a_model_without_a_template_takes_text_rows_only() -> None:
    problem = encode_row(_conversation(*TWO_TURNS), _tokenizer(), None, 512)
    assert isinstance(problem, Problem)
    assert "no chat template" in problem.message
    assert isinstance(encode_row(TextRow(1, "some text"), _tokenizer(), None, 512), EncodedRow)


def test_text_rows_are_trained_whole_with_the_end_of_text() -> None:
    result = _encode(TextRow(1, "one two three"))
    assert isinstance(result, EncodedRow)
    assert _tokenizer().decode(result.example.tokens.tolist()) == "one two three<|im_end|>"
    assert result.example.trained.tolist() == [False, True, True, True]  # nothing predicts the first token
    once = _encode(TextRow(1, "one two three<|im_end|>"))
    assert isinstance(once, EncodedRow)
    assert once.example.tokens.tolist() == result.example.tokens.tolist()  # not a second end


def test_rows_are_cut_at_the_right() -> None:
    conversation = _conversation("user: Hi", "assistant: " + "word " * 50 + "end")
    whole = _encode(conversation)
    cut = _encode(conversation, max_length=40)
    assert isinstance(whole, EncodedRow)
    assert isinstance(cut, EncodedRow)
    assert cut.full_length == len(whole.example.tokens) == whole.full_length
    assert cut.example.tokens.tolist() == whole.example.tokens.tolist()[:40]
    assert cut.example.trained.tolist() == whole.example.trained.tolist()[:40]


def test_nothing_left_to_train_after_the_cut_is_a_problem() -> None:
    problem = _encode(_conversation("user: " + "word " * 50, "assistant: yes"), max_length=32)
    assert isinstance(problem, Problem)
    assert "nothing is left to train on" in problem.message
    assert "32" in problem.message


_WORDS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=40).filter(lambda text: text.strip())


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=4),
    name=st.sampled_from(["smollm2", "llama3_like", "zephyr_like", "mistral_like", "marked_chatml", "phi3_like"]),
)
def test_the_mask_covers_exactly_the_answers(turns: list[tuple[str, str]], name: str) -> None:
    """Whatever people write: the trained runs are the answers and their end-of-turn tokens, and nothing else."""
    messages = [Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
    texts = [message.content for message in messages]
    if any("<|" in text or "<start" in text or _tokenizer().lost_bytes(text) for text in texts):
        return
    result = _encode(Conversation(1, tuple(messages)), name)
    assert isinstance(result, EncodedRow), result
    end = {"llama3_like": "<|eot_id|>", "phi3_like": "<|end|>"}.get(name, "<|im_end|>")
    trimmed = name in ("llama3_like", "mistral_like")
    before = {"mistral_like": " "}.get(name, "")
    wanted = [before + (answer.strip() if trimmed else answer) + end for _, answer in turns]
    trained = _trained_texts(result)
    if all(remark.kind != "mask" for remark in result.remarks):
        assert trained == wanted
    else:  # a first token that melted with the header is left out, never more
        assert len(trained) == len(wanted)
        assert all(whole.endswith(part) for part, whole in zip(trained, wanted, strict=True))


def test_a_wrong_mask_would_be_seen() -> None:
    """The negative control of this file's own helper: one token more or less changes the texts."""
    result = _encode(_conversation(*TWO_TURNS))
    assert isinstance(result, EncodedRow)
    result.example.trained[:-1] = result.example.trained[1:].copy()
    assert _trained_texts(result) != ["Hello 42!<|im_end|>", "Bye.<|im_end|>"]
