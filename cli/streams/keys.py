"""The keys that detach the terminal from a program: Docker's syntax. PURE."""

from pyswarm_core.errors import invalid

DEFAULT = "ctrl-p,ctrl-q"
_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(flag: str, text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,b` as the bytes that a terminal sends. Raises InvalidArgument."""
    found = bytearray()
    for word in text.split(","):
        letter = word.removeprefix("ctrl-")
        if letter == word and len(word.encode()) == 1:
            found += word.encode()
        elif letter != word and len(letter) == 1 and "a" <= letter.lower() <= "z":
            found.append(ord(letter.lower()) - ord("a") + 1)
        elif letter != word and letter in _CONTROLS:
            found.append(_CONTROLS[letter])
        else:
            raise invalid(
                flag,
                text,
                "expected keys with commas between them: a character, or ctrl-a to"
                " ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], ctrl-^ or ctrl-_",
            )
    return bytes(found)


class Watch:
    """Finds a sequence of keys in what is typed."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._matched = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What to send of it, and whether the sequence is complete. The beginning of a sequence is
        held until it is clear that it is none.
        """
        sent = bytearray()
        for byte in typed:
            if self._sequence and byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    return bytes(sent), True
                continue
            sent += self._sequence[: self._matched]
            self._matched = int(bool(self._sequence) and byte == self._sequence[0])
            if not self._matched:
                sent.append(byte)
        return bytes(sent), False
