"""What is wrong with a template, whichever flag or field gave it. PURE."""

from pyswarm_core.errors import InvalidArgument, not_valid


class Fault(Exception):
    """A template that cannot be read or evaluated; its text follows the name of the flag. `plain`
    is the text for a template whose text and values may be secret: without any value, and of the
    text without more than the names of fields and functions.
    """

    def __init__(self, text: str, plain: str = "") -> None:
        super().__init__(text)
        self.plain = plain or text


def unfit(what: str, value: object, reason: str, plain: str = "") -> Fault:
    """`action "{{.}" is not valid: ...`."""
    return Fault(not_valid("", value, reason, what).removeprefix(": "), plain)


def of_format(fault: Fault) -> InvalidArgument:
    """The error of a `--format`."""
    return InvalidArgument(f"--format: {fault}")
