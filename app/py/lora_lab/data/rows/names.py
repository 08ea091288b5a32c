"""What columns are often called, by what they hold; the surest names first."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

PROMPT = ("prompt", "question", "instruction", "query", "user", "human", "user_message", "request", "problem",
          "input", "source", "utterance", "q", "ask", "title")  # fmt: skip
REPLY = ("completion", "answer", "response", "output", "reply", "assistant", "gpt", "bot", "assistant_message",
         "chosen", "solution", "target", "label", "a", "summary")  # fmt: skip
SYSTEM = ("system", "system_prompt", "system_message", "system_instruction", "system_instructions", "instructions",
          "sys_prompt", "preprompt")  # fmt: skip
TEXT = ("text", "content", "body", "document", "article", "passage", "story", "sentence", "code")
CONTEXT = ("context", "input", "passage", "paragraph", "document", "article", "background", "evidence", "knowledge",
           "source_text", "excerpt", "text")  # fmt: skip
HISTORY = ("history", "chat_history", "conversation_history", "dialogue_history", "previous_turns")
CONVERSATION = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "chat_messages")
# Beside a text, what is probably to be written about it.
REPLY_TO_TEXT = ("summary", "response", "completion", "answer", "output", "reply", "highlights", "headline", "abstract",
                 "tldr", "translation", "target", "sentiment", "label", "label_text", "class", "intent",
                 "emotion")  # fmt: skip
# Beside an answer: whether it is a good one, and how good.
LABEL = ("label", "kto_tag", "kto_label", "desirable", "is_desirable", "preferred", "is_preferred", "thumbs_up",
         "accepted")  # fmt: skip
RATING = ("score", "rating", "reward", "stars", "quality", "quality_score", "grade")
# Pairs of answers, the better one first.
PAIRS = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("preferred", "dispreferred"),
         ("chosen_response", "rejected_response"), ("accepted", "rejected"))  # fmt: skip

# A message's reasoning, by the names under which chat templates are given it.
REASONING = ("reasoning_content", "thinking", "reasoning")

_NUMBERING = re.compile(r"(?:.*_)?(?:id|ids|idx|index|uuid|guid|hash|sha|md5|no|nr|num|row|row_number|unnamed_\d+)|")


@functools.lru_cache(4096)
def plain(column: str) -> str:
    """Return a column's name for comparing: `systemPrompt`, `System Prompt` and `system-prompt` are `system_prompt`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip())
    return re.sub(r"[\W_]+", "_", words).strip("_").lower()


def first_of(names: Iterable[str], columns: Mapping[str, str], taken: Iterable[str | None] = ()) -> str | None:
    """Return the first of the names that is a column and not taken; `columns` are {plain name: name}."""
    return next((columns[name] for name in names if name in columns and columns[name] not in taken), None)


def by_plain_name(columns: Iterable[str]) -> dict[str, str]:
    """Return {plain name: name}; of two that are alike the first."""
    found: dict[str, str] = {}
    for column in columns:
        found.setdefault(plain(column), column)
    return found


def is_numbering(column: str) -> bool:
    """Whether a column's name says that it numbers the rows; a nameless one is taken for that, too."""
    return _NUMBERING.fullmatch(plain(column)) is not None
