"""Dataset files -> records with their lines: whatever they are written in. What a record means is not known here."""
