"""Rows -> examples (tokens and which of them are trained) -> padded batches, in an order fixed by seed and epoch."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_lab.data.problems import Problem, RowError
from lora_lab.data.rows.schema import Conversation, Row, TextRow
from lora_lab.data.tokens.examples import Example, Examples
from lora_lab.data.tokens.mask import mask_conversation
from lora_lab.data.tokens.remarks import template_remarks
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.settings import Masking, OnLong


@dataclass(frozen=True)
class EncodedRow:
    """An example and what there is to say about it."""

    example: Example
    full_length: int  # tokens before the cut
    remarks: tuple[Problem, ...] = ()  # warnings, and what is good to know


@dataclass(frozen=True)
class Batch:
    """Examples in B sequences, padded at the right to one length T: one in each, or packed, all of them in one.

    `tokens` (B, T) int32; `targets` (B, T) int32, targets[:, t] being the token after tokens[:, t]; `weights` (B, T)
    float32, 1 where that target is trained and 0 elsewhere, so weights[:, t] belongs to the position that predicts.
    `positions` (B, T) int32 is each token's place in its own example: token t sees those from t - positions[t] on.
    Padding has position 0: it sees itself alone, and attention to it costs next to nothing.
    `trained_tokens` is the sum of the weights, `real_tokens` the number of tokens that are no padding.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    trained_tokens: int
    real_tokens: int


def encode_row(
    row: Row,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    max_length: int,
    masking: Masking = "assistant",
    on_long: OnLong = "truncate",
) -> EncodedRow | Problem:
    """Return one row's example, or what keeps it from being trained on.

    A row of more than `max_length` tokens is cut at the right, or with `on_long="drop"` a problem. A row that has
    nothing left to train on is always one.
    """
    result = encode_whole(row, tokenizer, template, masking)
    if isinstance(result, Problem):
        return result
    example, length = result.example, result.full_length
    tokens, trained = example.tokens[:max_length], example.trained[:max_length]
    if problem := unusable(row.line, length, bool(trained.any()), max_length, on_long):
        return problem
    return EncodedRow(Example(tokens, trained), length, result.remarks)


def encode_whole(
    row: Row, tokenizer: Tokenizer, template: ChatTemplate | None, masking: Masking = "assistant"
) -> EncodedRow | Problem:
    """Return one row's example uncut, even where nothing of it is trained; or what keeps it from being rendered."""
    try:
        if isinstance(row, TextRow):
            tokens, trained, remarks = _encode_text(row, tokenizer)
        else:
            tokens, trained, remarks = _encode_conversation(row, tokenizer, template, masking)
    except RowError as error:
        return error.at(row.line)
    except TemplateError as error:
        return Problem(row.line, str(error), kind="template")
    return EncodedRow(Example(tokens, trained), len(tokens), remarks)


def unusable(line: int, full_length: int, is_trained: bool, max_length: int, on_long: OnLong) -> Problem | None:
    """Return what keeps a row of `full_length` tokens out of training at this length, None for nothing.

    `is_trained`: some of its first `max_length` tokens are trained.
    """
    if on_long == "drop" and full_length > max_length:
        hint = "raise the maximum length, or cut rows instead of leaving them out"
        return RowError(f"the row has {full_length} tokens, more than {max_length}", hint, "too-long").at(line)
    return None if is_trained else _nothing_to_train(full_length, max_length).at(line)


def _encode_conversation(
    row: Conversation, tokenizer: Tokenizer, template: ChatTemplate | None, masking: Masking
) -> tuple[np.ndarray, np.ndarray, tuple[Problem, ...]]:
    if template is None:
        hint = 'it can be trained on {"text": …} rows only'
        raise RowError("this model has no chat template", hint, "no-template")
    masked = mask_conversation(row, tokenizer, template, masking)
    if len(masked.trained):
        masked.trained[0] = False
    return masked.tokens, masked.trained, template_remarks(row, masked, template, masking)


def _encode_text(row: TextRow, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, tuple[Problem, ...]]:
    ids = tokenizer.encode(row.text, add_special_tokens=True)
    end_of_text = tokenizer.end_of_text_id
    if end_of_text is not None and (not ids or ids[-1] != end_of_text):
        ids.append(end_of_text)
    trained = np.ones(len(ids), np.bool_)
    trained[:1] = False
    said = "the model names no end-of-text token; none was added"
    remarks = () if end_of_text is not None else (Problem(row.line, said, kind="mask", severity="warning"),)
    return np.asarray(ids, np.int32), trained, remarks


def _nothing_to_train(full_length: int, max_length: int) -> RowError:
    said = "nothing is left to train on: the row"
    if full_length > max_length:
        message = f"{said} has {full_length} tokens and its first {max_length} hold no assistant token"
        hint = "raise the maximum length, or shorten what stands before the answer"
        return RowError(message, hint, "nothing-to-train")
    return RowError(f"{said}'s text gives no token that can be a target", "", "nothing-to-train")


def make_batch(
    examples: Sequence[Example], length_multiple: int = 32, pad_id: int = 0, *,
    rows: int | None = None, packed_length: int | None = None,
) -> Batch:  # fmt: skip
    """Return the examples as one batch, each a sequence, padded at the right to a multiple of `length_multiple`.

    `rows` asks for that many sequences, the last of them empty where there are fewer examples. `packed_length` lays
    all examples into one sequence of that length instead, in their order, one behind the other.
    Raises ValueError for no example, or more of them than there is room for.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    lengths = [example.input_length for example in examples]
    if packed_length is None:
        shape = (rows or len(examples), -(-max(lengths) // length_multiple) * length_multiple)
        places = [(row, 0) for row in range(len(examples))]
        if len(examples) > shape[0]:
            raise ValueError(f"{len(examples)} examples do not fit {shape[0]} sequences")
    else:
        shape = (1, packed_length)
        places = [(0, end - length) for end, length in zip(itertools.accumulate(lengths), lengths, strict=True)]
        if sum(lengths) > packed_length:
            raise ValueError(f"examples of {sum(lengths)} tokens do not fit a sequence of {packed_length}")
    tokens, targets, positions = (np.zeros(shape, np.int32) for _ in range(3))
    weights = np.zeros(shape, np.float32)
    if pad_id:
        tokens.fill(pad_id)
        targets.fill(pad_id)
    for example, length, (row, start) in zip(examples, lengths, places, strict=True):
        part = min(length, len(example.tokens) - 1)
        tokens[row, start : start + length] = example.tokens[:length]
        targets[row, start : start + part] = example.tokens[1 : part + 1]
        weights[row, start : start + part] = example.trained[1 : part + 1]
        positions[row, start : start + length] = np.arange(length)
    return Batch(tokens, targets, weights, positions, int(np.count_nonzero(weights)), sum(lengths))


def batch_order(num_examples: int, seed: int, epoch: int, shuffle: bool = True) -> list[int]:
    """Return the order in which an epoch takes the examples: the file's, or one that (seed, epoch) fixes."""
    order = list(range(num_examples))
    if shuffle:
        _shuffle(order, f"order {seed} {epoch}")
    return order


def split_validation(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return (training, validation) examples, each in the given order: see `split_indices`."""
    trained, held = split_indices(examples, fraction, seed)
    if isinstance(examples, Examples):
        return examples.subset(trained), examples.subset(held)
    return [examples[i] for i in trained.tolist()], [examples[i] for i in held.tolist()]


def split_indices(examples: Sequence[Example], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (int64, in order) of the examples to train on, and of those to validate on.

    About `fraction` of the examples are held back, at least one of two different ones. Examples of the same tokens
    always go to the same side, so that nothing that is trained on is validated on; when all are equal none is held
    back.
    """
    nothing, everything = np.zeros(0, np.int64), np.arange(len(examples))
    if fraction <= 0 or len(examples) < 2:
        return everything, nothing
    groups: dict[bytes, list[int]] = {}
    for index in range(len(examples)):
        # The digest stands for the tokens: of half a million rows they would take as much room again.
        digest = hashlib.blake2b(examples[index].tokens.tobytes(), digest_size=16).digest()
        groups.setdefault(digest, []).append(index)
    if len(groups) < 2:
        return everything, nothing
    order: list[list[int]] = list(groups.values())
    _shuffle(order, f"validation {seed}")
    wanted = min(max(1, round(fraction * len(examples))), len(examples) - 1)
    held: list[int] = []
    for group in order:
        if len(held) + len(group) <= wanted:
            held.extend(group)
    if not held:  # every group is larger than the part: the smallest is nearest to it
        smallest = min(len(group) for group in order)
        held.extend(next(group for group in order if len(group) == smallest))
    is_held = np.zeros(len(examples), np.bool_)
    is_held[held] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _shuffle(items: list, seed: str) -> None:
    """Shuffle in place, by Fisher and Yates. `random.Random(str).random()` is promised to stay the same everywhere."""
    if len(items) < 2:
        return  # seeding costs a millisecond in a browser, and a single row is an epoch
    generator = random.Random(seed)
    for last in range(len(items) - 1, 0, -1):
        other = int(generator.random() * (last + 1))
        items[last], items[other] = items[other], items[last]
