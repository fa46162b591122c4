"""Lists as Docker prints them: a table, JSON lines or the text of a template. PURE.

A row maps Docker's placeholders (`Name` for `{{.Name}}`) to the values of their columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pyswarm_core.errors import invalid

MIN_WIDTH = 10
GAP = 3

Row = Mapping[str, Any]


class Layout(msgspec.Struct, frozen=True):
    """The headings of a list's placeholders, and the columns of its table."""

    headings: dict[str, str]
    columns: tuple[str, ...]
    quiet: str = "ID"
    """The placeholder that `-q` prints."""


def show(layout: Layout, rows: Sequence[Row], form: str = "", *, quiet: bool = False) -> list[str]:
    """The lines of a list. `form` is `table`, `json`, a template or `table TEMPLATE`.

    Raises InvalidArgument for a template that is not valid or has an unknown placeholder.
    """
    if quiet and form in ("", "table"):
        return [str(row[layout.quiet]) for row in rows]
    if form in ("", "table"):
        cells = [[_cell(row[column]) for column in layout.columns] for row in rows]
        return table([[layout.headings[column] for column in layout.columns], *cells])
    if form == "json":
        return [msgspec.json.encode(dict(row), order="sorted").decode() for row in rows]
    from pyswarm_core.gotemplate.evaluate import render
    from pyswarm_core.gotemplate.parse import parse

    is_table, template = _template(form)
    nodes = parse(template)
    # Rendering the headings finds an unknown placeholder in an empty list, too.
    heading = render(nodes, layout.headings)
    texts = [render(nodes, row) for row in rows]
    if not is_table:
        return texts
    return table([_cell_list(text) for text in (heading, *texts)])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns are three spaces wider than their widest cell, at least ten characters."""
    count = max(map(len, rows), default=0)
    widths = [
        max(
            MIN_WIDTH, GAP + max((len(row[column]) for row in rows if column < len(row)), default=0)
        )
        for column in range(count)
    ]
    return [
        "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def ellipsis(text: str, length: int) -> str:
    """The text, cut to `length` characters with `…` at the end."""
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str) -> str:
    """The text with spaces in place of control characters."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def visible(text: str) -> str:
    """The text with escapes such as `\\x1b` in place of characters that a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _template(form: str) -> tuple[bool, str]:
    is_table = form.startswith(("table ", "table{"))
    template = form.removeprefix("table").lstrip() if is_table else form
    if not template:
        raise invalid("--format", form, "expected json, table or a template")
    # Shells pass \t and \n as two characters.
    return is_table, template.replace("\\t", "\t").replace("\\n", "\n")


def _cell_list(text: str) -> list[str]:
    return [one_line(cell) for cell in text.split("\t")]


def _cell(value: object) -> str:
    return one_line(str(value))
