"""Lists as Docker prints them: rows -> table, JSON lines or a template's text. PURE.

A row maps Docker's placeholders (`Name` for `{{.Name}}`) to what their column shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pyswarm_core.errors import InvalidArgument

MIN_WIDTH = 10
GAP = 3

Row = Mapping[str, Any]


class Layout(msgspec.Struct, frozen=True):
    """What a list can show: each placeholder's heading, and the columns of its table."""

    headings: dict[str, str]
    columns: tuple[str, ...]
    quiet: str = "ID"
    """What `-q` shows."""


def show(layout: Layout, rows: Sequence[Row], form: str = "", *, quiet: bool = False) -> list[str]:
    """The list's lines. `form` is `table`, `json`, a template or `table TEMPLATE`.

    Raises InvalidArgument for a template that cannot be read or names an unknown placeholder.
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
    # The headings go through the template too: an unknown placeholder is found in an empty list.
    heading = render(nodes, layout.headings)
    texts = [render(nodes, row) for row in rows]
    if not is_table:
        return texts
    return table([_cell_list(text) for text in (heading, *texts)])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell and three spaces, at least ten characters."""
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
    """The text, or so much of it that `…` fits behind it within `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str) -> str:
    """The text without what a terminal would act upon."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _template(form: str) -> tuple[bool, str]:
    is_table = form.startswith(("table ", "table{"))
    template = form.removeprefix("table").lstrip() if is_table else form
    if not template:
        raise InvalidArgument("format has no template: want json, table or a template")
    # A shell passes \t and \n as two characters.
    return is_table, template.replace("\\t", "\t").replace("\\n", "\n")


def _cell_list(text: str) -> list[str]:
    return [one_line(cell) for cell in text.split("\t")]


def _cell(value: object) -> str:
    return one_line(str(value))
