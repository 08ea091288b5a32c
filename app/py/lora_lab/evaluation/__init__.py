"""What came of a run: its record, what it did to everything else, a report of it; and settings that travel.

Knows files' contents, not where they lie; no GPU, no page.
"""
