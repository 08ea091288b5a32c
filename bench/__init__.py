"""The benchmark: the same measurements natively, under Node + Dawn, and of PyTorch + PEFT beside them."""
