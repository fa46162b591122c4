"""Plain words of YAML as Compose reads them, and numbers as Go prints them. PURE.

Compose's words are those of neither YAML 1.1 nor 1.2: `yes` is text, `0644` is 420, `22:22` is
text.
"""

import re
from decimal import Decimal
from struct import pack, unpack

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT = re.compile(
    r"(?P<sign>[-+]?)(?:0x(?P<x>[0-9a-fA-F_]+)|0b(?P<b>[01_]+)|0o?(?P<o>[0-7_]+)"
    r"|(?P<d>0|[1-9][0-9_]*))",
    re.ASCII,
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_ODD = {
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"),
    "+.inf": float("inf"), "-.inf": float("-inf"),
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
    "-0": -0.0,
}  # fmt: skip
_STARTS = frozenset("+-.0123456789")
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
_EXPONENT = 6
"""From which on Go prints an exponent."""
_LEAST, _MOST = -(2**63), 2**64 - 1
"""Other integers are read as floats."""
_LENGTH_MAX = 64
"""No number that anybody means is longer; a longer word is text."""


def resolved(word: str) -> bool | int | float | str | None:
    """The value of a plain word."""
    if word in _NULL:
        return None
    if word in _BOOL:
        return _BOOL[word]
    if word[0] not in _STARTS or len(word) > _LENGTH_MAX:
        return word
    if word in _ODD:
        return _ODD[word]
    return _number(word)


def _number(word: str) -> int | float | str:
    if match := _INT.fullmatch(word):
        base = match.lastgroup or "d"
        digits = match[base].replace("_", "")
        if not digits:
            return word
        number = int(digits, _BASES[base])
        number = -number if match["sign"] == "-" else number
        return number if _LEAST <= number <= _MOST else float(number)
    plain = word.replace("_", "")
    return float(plain) if _FLOAT.fullmatch(plain) else word


def go_text(value: bool | int | float | str) -> str:
    """A value as Go prints it: `true`, `1.1`, `1e+06`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _go_float(value) if isinstance(value, float) else str(value)


def _go_float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign, numbers, _ = (number := Decimal(repr(value)).normalize()).as_tuple()
    exponent, digits = number.adjusted(), "".join(map(str, numbers))
    if -4 <= exponent < _EXPONENT or not value:
        return f"{number:f}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' * sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def single(value: float) -> float:
    """A number with the precision of 32 bits, which numbers of CPUs have in Compose."""
    packed = pack("f", value)
    (exact,) = unpack("f", packed)
    for digits in range(1, 9):
        near = float(f"{exact:.{digits}g}")
        if pack("f", near) == packed:
            return near
    return float(f"{exact:.9g}")


def octal(text: str) -> int | None:
    """The number of a mode, `0440` or `0o440`; None if it is none."""
    digits = text.strip().lower().removeprefix("0o")
    valid = digits.isascii() and digits.isdigit() and not set(digits) & {"8", "9"}
    return int(digits, 8) if valid and len(digits) <= 8 else None
