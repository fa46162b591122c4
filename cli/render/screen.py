"""Lines that are drawn again in place. PURE."""

from collections.abc import Sequence

from cli.render.listing import ellipsis


class Screen:
    """Redraws a block of lines on a terminal. `draw` returns the text to write."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._drawn = 0

    def draw(self, shown: Sequence[str]) -> str:
        """The text that replaces the lines drawn before."""
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._drawn = len(shown)
        body = "".join(f"\r\x1b[2K{ellipsis(line, self._width)}\n" for line in shown)
        return f"{up}{body}\x1b[J"
