"""One row as the model sees it: its tokens, which are trained, which are special, and why."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_lab.data.dataset import Dataset, EncodedTable
from lora_lab.data.problems import Problem, well_formed
from lora_lab.data.rows.schema import Conversation, Row
from lora_lab.data.tokens.batches import encode_whole
from lora_lab.data.tokens.mask import trained_turns
from lora_lab.data.tokens.remarks import TEMPLATE_KINDS
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import StreamDecoder, Tokenizer
from lora_lab.settings import Masking

Jump = Literal["longest", "shortest", "truncated", "random", "most-trained", "least-trained"]


@dataclass(frozen=True)
class RowView:
    """A row's tokens side by side: numbers, texts (which joined are the whole text), trained, special.

    `kept` tokens are left after the cut to the length; `trained` is what is trained of them. A token that ends inside
    a character has an empty text; the token that completes the character has it. `notes` explain the mask in words.
    """

    index: int
    line: int
    source: str
    format: str
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    trained: tuple[bool, ...]
    special: tuple[bool, ...]
    kept: int
    notes: tuple[str, ...]


def view_row(
    dataset: Dataset, index: int, tokenizer: Tokenizer, template: ChatTemplate | None, max_length: int
) -> RowView:
    """Return row `index` of a dataset as it is trained on at this length. IndexError for one that is not there."""
    if not 0 <= index < len(dataset.rows):
        raise IndexError(f"row {index} of {len(dataset.rows)}")
    source = dataset.table.source(int(dataset.places[index]))
    view = look_at(dataset.rows[index], tokenizer, template, max_length, dataset.masking, index=index, source=source)
    assert not isinstance(view, Problem), "the row was encoded before"
    return view


def look_at(
    row: Row, tokenizer: Tokenizer, template: ChatTemplate | None, max_length: int, masking: Masking = "assistant",
    *, index: int = 0, source: str = "",
) -> RowView | Problem:  # fmt: skip
    """Return a row as it is trained on at this length, or what keeps it from being rendered."""
    result = encode_whole(row, tokenizer, template, masking)
    if isinstance(result, Problem):
        return result
    ids, trained = result.example.tokens.tolist(), result.example.trained.copy()
    trained[max_length:] = False
    return RowView(
        index=index,
        line=row.line,
        source=source,
        format=row.kind,
        token_ids=tuple(ids),
        texts=token_texts(ids, tokenizer),
        trained=tuple(trained.tolist()),
        special=tuple(token in tokenizer.special_ids for token in ids),
        kept=min(len(ids), max_length),
        notes=(*row_notes(row, masking, trained, len(ids), max_length), *said_of_row(result.remarks)),
    )


@dataclass(frozen=True)
class Turn:
    """One turn of a row as it was read. A text row is one turn of the role `text`."""

    role: str
    content: str
    trained: bool


def turns_of(row: Row, masking: Masking = "assistant") -> tuple[Turn, ...]:
    """Return a row's turns, and which of them are trained with this masking."""
    if not isinstance(row, Conversation):
        return (Turn("text", row.text, True),)
    trained = trained_turns(row.messages, masking)
    return tuple(
        Turn(one.role, one.content, number in trained or (masking == "all" and one.role != "assistant"))
        for number, one in enumerate(row.messages)
    )


def token_texts(ids: list[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return each token's part of the text; special tokens are shown by name."""
    decoder = StreamDecoder(tokenizer, skip_special_tokens=False)
    texts = [decoder.push(token) for token in ids]
    rest = decoder.finish()
    if rest and texts:
        texts[-1] += rest
    return tuple(well_formed(text) for text in texts)


def row_notes(row: Row, masking: str, trained: np.ndarray, length: int, max_length: int) -> list[str]:
    """Return the mask in words, for a row of `length` tokens, `trained` (T,) saying which of them are trained."""
    count = int(np.count_nonzero(trained))
    notes = [f"{count:,} of {min(length, max_length):,} tokens are trained."]
    if not isinstance(row, Conversation):
        notes.append("A text row is trained whole, with the end-of-text token; nothing predicts its first token.")
    elif masking == "all":
        notes.append("Everything is trained: what the others say and the template's own words too.")
    elif masking == "last":
        notes.append("Only the last answer is trained, with its end-of-turn token; the rest is read.")
    else:
        notes.append("Trained are the assistant's words and the end-of-turn token behind them; the rest is read.")
    if isinstance(row, Conversation):
        for number, message in enumerate(row.messages):
            if message.role == "assistant" and message.excluded:
                notes.append(f"Message {number + 1} has weight 0: it is read, not trained.")
            elif message.role == "assistant" and not message.trained and masking != "all":
                notes.append(f"Message {number + 1} stands in the prompt: it is read, not trained.")
    if length > max_length:
        lost = length - max_length
        notes.append(f"The row has {length:,} tokens; the last {lost:,} are cut off at {max_length:,}.")
    return notes


def said_of_row(remarks: Iterable[Problem]) -> list[str]:
    """Return those of the remarks that explain what a row's tokens are or are not."""
    return [problem.said for problem in remarks if problem.kind in TEMPLATE_KINDS or problem.kind == "mask"]


def find_row(rows: Dataset | EncodedTable, jump: Jump, max_length: int, current: int = -1, seed: int = 0) -> int | None:
    """Return the row that a jump leads to: `truncated` is the next one behind `current`, going round; None for none."""
    count = len(rows.examples)
    if not count:
        return None
    if jump == "random":
        return random.Random(f"{seed} {current}").randrange(count)
    if jump == "longest":
        return int(np.argmax(rows.lengths))
    if jump == "shortest":
        return int(np.argmin(rows.lengths))
    if jump == "truncated":
        places = np.flatnonzero(rows.lengths > max_length)
        if not len(places):
            return None
        return int(places[np.searchsorted(places, current, "right") % len(places)])
    cut = rows.examples.cut(max_length)
    shares = cut.trained_counts / np.maximum(1, cut.sizes)
    return int(np.argmax(shares) if jump == "most-trained" else np.argmin(shares))
