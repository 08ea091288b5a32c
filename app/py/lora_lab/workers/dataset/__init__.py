"""The dataset that the page has open, and what is said of it."""
