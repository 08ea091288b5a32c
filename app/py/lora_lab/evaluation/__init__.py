"""How good a run is: what it said on the way, whether it went well, and what is kept of it. Knows nothing of a page."""
