"""Rows -> tokens, and which of them are trained -> batches. Nothing of files is known here."""
