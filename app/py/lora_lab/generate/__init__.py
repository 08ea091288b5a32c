"""Running a model, with or without an adapter: chat and logits."""

from __future__ import annotations

from .chat import ChatEngine, Piece, ReplyStats
from .logits import logits

__all__ = ["ChatEngine", "Piece", "ReplyStats", "logits"]
