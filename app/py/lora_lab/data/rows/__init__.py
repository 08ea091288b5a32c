"""Records -> rows that can be trained on: conversations and texts. Nothing of tokens is known here."""
