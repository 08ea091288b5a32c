"""The operations of a Llama block, each with its forward and its backward side by side."""
