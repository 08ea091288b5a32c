"""The model that is open, as far as a worker needs it to make tokens of text and to check adapters."""
