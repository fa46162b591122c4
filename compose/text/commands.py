"""A command that is one text as a list of words, as Compose splits it. PURE.

That is nearly a shell: quotes and backslashes count, variables do not. `;`, `&`, `|`, `<` and `>`
outside of quotes end the command, and what follows is dropped.
"""

from typing import NamedTuple

from pyswarm_core.errors import unfit

_SPACES = frozenset(" \t\r\n")
_ENDS = frozenset(";&|<>")
_ESCAPES = {"t": "\t", "n": "\n"}
_SPECIAL = frozenset("\\'\"`()") | _SPACES | _ENDS


class Command(NamedTuple):
    """The words, and the sign that ended the command before its end; empty if none did."""

    words: list[str]
    end: str


def split(text: str) -> Command:
    """The words of a command. Raises InvalidArgument, with what is expected."""
    return _Splitter().read(text)


class _Splitter:
    def __init__(self) -> None:
        self._words: list[str] = []
        self._word: list[str] = []
        self._has_word = False
        self._open = ""
        """What closes the quotes that are open."""

    def read(self, text: str) -> Command:
        """The words."""
        signs = iter(text)
        for sign in signs:
            if sign not in _SPECIAL:
                self._add(sign)
            elif sign == "\\" and self._open != "'":
                self._escaped(next(signs, ""))
            elif sign in _ENDS and not self._open:
                self._end_before(sign)
                return Command(self._words, sign)
            else:
                self._special(sign)
        if self._open:
            raise unfit(f"a command whose quotes are closed: the closing {self._open} is missing")
        self._end_word()
        return Command(self._words, "")

    def _add(self, sign: str) -> None:
        self._word.append(sign)
        self._has_word = True

    def _escaped(self, sign: str) -> None:
        if not sign:
            raise unfit("a command that does not end with a backslash")
        self._add(_ESCAPES.get(sign, sign))

    def _special(self, sign: str) -> None:
        if sign in _SPACES and not self._open:
            self._end_word()
        elif sign in "'\"" and self._open in ("", sign):
            self._open = "" if self._open else sign
            self._has_word = True
        elif sign == "`" and self._open in ("", "`"):
            self._open = "" if self._open else "`"
            self._add(sign)
        else:
            self._parenthesis(sign)

    def _parenthesis(self, sign: str) -> None:
        if sign == ")" and self._open == ")":
            self._open = ""
        elif sign in "()" and not self._open:
            if sign == ")" or self._word[-1:] != ["$"]:
                raise unfit("a command with ( and ) in quotes, or a list of words")
            self._open = ")"
        self._add(sign)

    def _end_before(self, sign: str) -> None:
        """The word before `>` is the number of a file, if it begins with a digit."""
        if sign == ">" and self._word[:1] and self._word[0] in "0123456789":
            self._has_word = False
        self._end_word()

    def _end_word(self) -> None:
        if self._has_word:
            self._words.append("".join(self._word))
        self._word, self._has_word = [], False
