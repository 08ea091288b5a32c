"""Unigram tokenizers: the browser's tokens are Rust's, on thousands of hostile strings; what is damaged is refused."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from lora_lab.data import read_dataset
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import StreamDecoder, browser_tokenizer, load_tokenizer
from lora_lab.data.tokens.unigram import rust_number
from lora_lab.errors import ModelError
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import read_template, run, run_node_tokenizer
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.data.unigram_files import charsmap, nmt_nfkc, spm_files, trained_files

pytestmark = pytest.mark.unit

# What is lost or grows at the very beginning decides where Metaspace's "first" puts its space.
_BEGINNINGS = ["\u02d9", "\u1fc1", " ", "\x01", "\u3000", "\xa8", "<s>", "\ufeff", "  ", "a", "\r\n", "\u1fc1\u0301",
               "\u02d9\u0301", "\ufdfa", "\ufb01\u0301", "</s>", "▁", "<unk>", "<0x41>"]  # fmt: skip
_CHANCE = random.Random(11)
TEXTS = hostile_texts(2000, seed=91) + [
    "".join(_CHANCE.choices(_BEGINNINGS, k=_CHANCE.randint(1, 5))) + _CHANCE.choice(["", "the", "\u0301b"])
    for _ in range(500)
]

Steps = Callable[[bool], TokenizerFiles]


def metaspace(scheme: str = "always", split: bool = True) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


def row(*steps: normalizers.Normalizer) -> normalizers.Normalizer:
    return normalizers.Sequence(list(steps))


def precompiled() -> normalizers.Normalizer:
    return normalizers.Precompiled(base64.b64decode(charsmap()))


FILES: dict[str, Steps] = {
    "sentencepiece, always": lambda fallback: spm_files(fallback, "always"),
    "sentencepiece, first": lambda fallback: spm_files(fallback, "first"),
    "sentencepiece, never": lambda fallback: spm_files(fallback, "never"),
    "nmt and nfkc": lambda fallback: trained_files(fallback, nmt_nfkc(), metaspace()),
    "nmt and nfkc, first": lambda fallback: trained_files(fallback, nmt_nfkc(), metaspace("first")),
    "no normalizer": lambda fallback: trained_files(fallback, None, metaspace()),
    "not split": lambda fallback: trained_files(fallback, None, metaspace(split=False)),
    "no steps": lambda fallback: trained_files(fallback),
    "llama's steps": lambda fallback: trained_files(
        fallback, row(normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"))
    ),
    "words": lambda fallback: trained_files(
        fallback, precompiled(), pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace()])
    ),
    "stripped": lambda fallback: trained_files(
        fallback,
        row(precompiled(), normalizers.Strip(), normalizers.Replace("e", "xy"), normalizers.Replace("a", "")),
        metaspace("first"),
    ),
    "composed": lambda fallback: trained_files(
        fallback, row(normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " ")), metaspace("first")
    ),
    "added, normalized": lambda fallback: trained_files(fallback, nmt_nfkc(), metaspace("first"), normalized=True),
    "added, stripped": lambda fallback: trained_files(fallback, None, metaspace(), lstrip=True, rstrip=True),
}
EVERY = pytest.mark.parametrize("name", FILES)
FALLBACK = pytest.mark.parametrize("byte_fallback", [False, True], ids=["unknown", "bytes"])


def differences(files: TokenizerFiles, other: TokenizerFiles | None = None) -> list[tuple[str, list[int], list[int]]]:
    rust, browser = load_tokenizer(files), browser_tokenizer(other or files)
    found = [(text, rust.encode(text), browser.encode(text)) for text in TEXTS]
    return [entry for entry in found if entry[1] != entry[2]]


@EVERY
@FALLBACK
def test_same_tokens_in_both_hosts(name: str, byte_fallback: bool) -> None:
    files = FILES[name](byte_fallback)
    different = differences(files)
    assert not different, f"{len(different)} of {len(TEXTS)} differ, first: {different[:2]!a}"
    rust, browser = load_tokenizer(files), browser_tokenizer(files)
    for text in TEXTS[::10]:
        ids = rust.encode(text, add_special_tokens=True)
        assert ids == browser.encode(text, add_special_tokens=True)
        assert (ids[0], ids[-1]) == (1, 2)


@FALLBACK
def test_a_changed_score_is_seen(byte_fallback: bool) -> None:
    """The negative control: one token that costs more, and the texts that hold it are cut otherwise."""
    files = trained_files(byte_fallback, None, metaspace())
    vocab = list(files.tokenizer_json["model"]["vocab"])
    number = next(index for index, (token, _) in enumerate(vocab) if token == "in")
    vocab[number] = ["in", vocab[number][1] - 8]
    model = files.tokenizer_json["model"] | {"vocab": vocab}
    changed = TokenizerFiles(files.tokenizer_json | {"model": model}, None, files.special_tokens)
    assert len(differences(files, changed)) > 5


@pytest.mark.parametrize("name", ["sentencepiece, always", "no normalizer", "nmt and nfkc"])
def test_the_javascript_library_alone_differs(name: str) -> None:
    """Why the browser does not use it: it knows no bytes, and no charsmap."""
    rust = load_tokenizer(FILES[name](True))
    node = FILES[name](True).tokenizer_json
    if name == "nmt and nfkc":  # a normalizer that it does not know by name at all
        with pytest.raises(AssertionError, match="Nmt"):
            run_node_tokenizer(node, TEXTS[:1])
        return
    javascript = run_node_tokenizer(node, TEXTS)
    assert sum(rust.encode(text) != ids for text, ids in zip(TEXTS, javascript, strict=True)) > 500


def test_ties_are_broken_as_rust_does() -> None:
    """Rows of the same tokens in another order have equal scores but for rounding; the JavaScript library rounds
    otherwise.
    """
    generator = random.Random(1)
    ours = theirs = 0
    for _ in range(4):
        vocab = [["<unk>", 0.0]] + [
            [token, -generator.random() * 12] for token in ("a", "b", "aa", "ab", "ba", "aaa", "bb", "abab")
        ]
        model = {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": False}
        empty = dict.fromkeys(["normalizer", "pre_tokenizer", "post_processor", "decoder"])
        files = TokenizerFiles({"version": "1.0", "added_tokens": [], **empty, "model": model}, None, {})
        texts = ["".join(generator.choices("aab", k=generator.randint(2, 400))) for _ in range(150)]
        texts += ["a" * length for length in range(2, 300, 3)]
        rust, browser = load_tokenizer(files), browser_tokenizer(files)
        javascript = run_node_tokenizer(files.tokenizer_json, texts)
        for text, ids in zip(texts, javascript, strict=True):
            wanted = rust.encode(text)
            ours += browser.encode(text) != wanted
            theirs += ids != wanted
    assert ours == 0
    assert theirs > 10


@EVERY
@FALLBACK
def test_decoding_is_rusts(name: str, byte_fallback: bool) -> None:
    files = FILES[name](byte_fallback)
    tokenizer, rust = browser_tokenizer(files), RustTokenizer.from_str(json.dumps(files.tokenizer_json))
    for text in TEXTS[::10]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == rust.decode(ids, skip_special_tokens=False)
        decoder = StreamDecoder(tokenizer, skip_special_tokens=False)
        assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids)


def test_text_comes_back() -> None:
    """With bytes for what the vocabulary lacks, and nothing changed on the way in, every text is what it was."""
    tokenizer = browser_tokenizer(trained_files(True, None, metaspace(split=False)))
    texts = [text for text in TEXTS if "▁" not in text and not text.startswith(" ") and "<" not in text]
    assert len(texts) > 1000
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_scores_are_read_as_rust_reads_them() -> None:
    generator = random.Random(3)
    values = [-generator.random() * 10 ** generator.randint(-12, 4) for _ in range(5000)]
    values += [0.0, -0.0, 1e-300, 5e-320, 1.5e300, 3.0, 123456789.0, 1e22, 1e-7, -1]
    vocab = [[f"t{index}", value] for index, value in enumerate(values)]
    files = trained_files(False)
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocab}
    rust = RustTokenizer.from_str(json.dumps(files.tokenizer_json | {"model": model, "added_tokens": []}))
    read = [score for _, score in json.loads(rust.to_str())["model"]["vocab"]]
    assert [rust_number(value) for value in values] == read
    assert sum(value != score for value, score in zip(values, read, strict=True)) > 100  # … and it does matter


# ---------------------------------------------------------------------------------------------------- the app's needs


@pytest.mark.parametrize("name", ["sentencepiece, always", "sentencepiece, first", "no normalizer", "no steps"])
@pytest.mark.parametrize("template", ["marked_chatml", "zephyr_like", "gemma_like"])
def test_exactly_the_answers_are_trained(name: str, template: str) -> None:
    """Behind every kind of file the trained tokens are the answers', special tokens and masks included."""
    files = FILES[name](True)
    tokenizer = browser_tokenizer(files)
    answers = ["It was naïve of you.", "日本語 and ☃", "two  words", "Four."]
    rows = [
        {"messages": [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(answers)
    ]
    jsonl = "\n".join(map(json.dumps, rows))
    chat_template = ChatTemplate(read_template(template), files.special_tokens)
    both = [run(read_dataset(jsonl, host, chat_template, 512)) for host in (tokenizer, load_tokenizer(files))]
    dataset, other = both
    assert dataset.report.as_dict() == other.report.as_dict()
    assert len(dataset.examples) == len(answers)
    for answer, example, same in zip(answers, dataset.examples, other.examples, strict=True):
        assert example.tokens.tolist() == same.tokens.tolist() and example.trained.tolist() == same.trained.tolist()
        trained = " ".join(tokenizer.decode(example.tokens[example.trained]).split())
        wanted = " ".join(tokenizer.decode(tokenizer.encode(answer)).split())
        assert trained.startswith(wanted) and "Question" not in trained
        assert len(trained) - len(wanted) <= len("<end_of_turn>") + 1  # what ends the turn
    assert [problem["message"][:16] for problem in dataset.report.as_dict()["problems"]] == ["only 4 good rows"]


def test_places_and_names() -> None:
    tokenizer = browser_tokenizer(trained_files(True, None, metaspace()))
    text = "a b\u0f04<|im_end|>c"
    ids = tokenizer.encode(text)
    ends = tokenizer.token_ends(text, ids)
    assert ends is not None and ends.tolist()[-1] == len(text.encode())
    assert tokenizer.token_ends(text, ids[:-1]) is None
    end_of_turn = tokenizer.token_to_id("<|im_end|>")
    assert end_of_turn is not None and end_of_turn in tokenizer.special_ids and end_of_turn in ids
    assert tokenizer.end_of_text_id == 2
    assert tokenizer.id_to_token(2) == "</s>" and tokenizer.id_to_token(10**6) is None
    assert tokenizer.token_bytes(tokenizer.token_to_id("<0xE2>") or -1) == b"\xe2"


# ---------------------------------------------------------------------------------------------------- what is refused


def with_model(**changes: Any) -> TokenizerFiles:
    files = trained_files(True, None, metaspace())
    return TokenizerFiles(
        files.tokenizer_json | {"model": files.tokenizer_json["model"] | changes}, None, files.special_tokens
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab": []}, "model.vocab is an empty list; wanted a list of pairs"),
        ({"vocab": {"a": 1}}, "model.vocab is dict; wanted a list of pairs"),
        ({"vocab": None}, "model.vocab is NoneType"),
        ({"vocab": [["<unk>", 0.0], ["a"], "bc"]}, r"vocab\[1\] is \['a'\] and 1 more like it; wanted a token and"),
        ({"vocab": [["<unk>", 0.0], [1, 0.0]]}, r"vocab\[1\] is \[1, 0.0\]; wanted a token and its score, a finite"),
        ({"vocab": [["<unk>", 0.0], ["a", math.nan]]}, r"vocab\[1\] is \['a', nan\]"),
        ({"vocab": [["<unk>", -math.inf]]}, r"vocab\[0\] is \['<unk>', -inf\]"),
        ({"vocab": [["<unk>", "0"]]}, r"vocab\[0\] is"),
        ({"vocab": [["<unk>", 2e30]]}, r"vocab\[0\] is"),
        ({"vocab": [["<unk>", True]]}, r"vocab\[0\] is"),
        ({"unk_id": 10**6}, "unk_id is 1000000; wanted the unknown token's number, 0 to"),
        ({"unk_id": -1}, "unk_id is -1"),
        ({"unk_id": None}, "unk_id is None"),
        ({"unk_id": "0"}, "unk_id is '0'"),
        ({"unk_id": True}, "unk_id is True"),
        ({"byte_fallback": "yes"}, "byte_fallback is 'yes'; wanted true or false"),
        ({"vocab": [["a", math.nan]], "unk_id": 7, "byte_fallback": 1}, "(?s)vocab.*unk_id.*byte_fallback"),
    ],
)
def test_damaged_models_are_refused_in_both_hosts(changes: dict[str, Any], said: str) -> None:
    for load in (load_tokenizer, browser_tokenizer):
        with pytest.raises(ModelError, match=said):
            load(with_model(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre_tokenizer": {"type": "Punctuation", "behavior": "Isolated"}}, "only Metaspace and WhitespaceSplit"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer is not supported"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a|b)"}, "content": ""}}, "normalizer replaces"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a*"}, "content": ""}}, "matches nothing"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ""}}, "matches nothing"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}}}, "content of Replace is None"),
        ({"post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}}, "wanted Temp"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}]}}, "special_tokens is"),
        ({"normalizer": {"type": "Prepend", "prepend": "x"},
          "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}}, "beside Prepend"),
    ],
)  # fmt: skip
def test_steps_that_are_not_known_are_refused_by_name(changes: dict[str, Any], said: str) -> None:
    files = trained_files(True, None, metaspace())
    with pytest.raises(ModelError, match=said):
        browser_tokenizer(TokenizerFiles(files.tokenizer_json | changes, None, {}))


def test_two_tokens_of_one_name() -> None:
    """Rust takes the last one's number and score, and writes both."""
    files = with_model(
        vocab=[["<unk>", 0.0], ["ab", -9.0], ["a", -1.0], ["b", -1.5], ["ab", -1.0]], byte_fallback=False
    )
    files = TokenizerFiles(files.tokenizer_json | {"added_tokens": []}, None, {})
    for tokenizer in (load_tokenizer(files), browser_tokenizer(files)):
        assert tokenizer.encode("abb") == [0, 4, 3]
        assert tokenizer.decode([1, 4]) == "abab"
