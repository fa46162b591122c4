"""Lines and characters of files and command lines. PURE."""


def split_lines(text: str) -> list[str]:
    """The lines of a file without their ends; nothing follows the last end.

    Only a line feed, alone or behind a carriage return, ends one. `str.splitlines` also ends them
    at form feeds, vertical tabs, NEL and Unicode's separators, which belong to values.
    """
    found = [line.removesuffix("\r") for line in text.split("\n")]
    return found if found[-1] else found[:-1]


def as_utf8(text: str) -> str:
    """The text with characters that UTF-8 cannot encode escaped: a file name may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode it. Python reads other bytes as surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
