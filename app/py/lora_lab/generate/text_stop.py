"""The end of a reply that is a text and no token: found across pieces, and never shown, not even its beginning."""

from __future__ import annotations


class TextStop:
    """Passes text on up to `marker`, holding back what may be its beginning. An empty marker never comes."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Return what is certain to stand before the marker."""
        if not self._marker:
            return text
        if self.found:
            return ""
        text = self._held + text
        place = text.find(self._marker)
        if place >= 0:
            self.found, self._held = True, ""
            return text[:place]
        most = min(len(text), len(self._marker) - 1)
        held = next((size for size in range(most, 0, -1) if self._marker.startswith(text[-size:])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """Return what was held back: nothing follows it, so it was no marker."""
        held, self._held = self._held, ""
        return held
