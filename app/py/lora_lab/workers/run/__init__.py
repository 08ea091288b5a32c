"""A run as the page's settings mean it, and what is said of it."""
