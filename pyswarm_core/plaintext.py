"""Text as files and command lines hold it. PURE."""


def split_lines(text: str) -> list[str]:
    """The lines of a file without their ends; nothing follows the last end.

    Only a line feed, alone or behind a carriage return, ends one. `str.splitlines` also ends them
    at form feeds, vertical tabs, NEL and Unicode's separators, which belong to values.
    """
    found = [line.removesuffix("\r") for line in text.split("\n")]
    return found if found[-1] else found[:-1]


def as_utf8(text: str) -> str:
    """The text with what cannot be written as UTF-8 escaped: names of files may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Whether it can be written as UTF-8. Python reads bytes that are not as surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
