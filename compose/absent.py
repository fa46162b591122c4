"""Keys that have no value once all files are merged. PURE.

A later file may leave a value out: then the earlier one counts. What no file gives a value is a
fault, but for the few keys of which nothing has a meaning.
"""

from compose.forms.base import ANYTHING, Form
from compose.forms.maps import Entries, Table
from compose.report import Report
from compose.tree import Node, Path


def expect_values(node: Node, form: Form, at: Path, report: Report) -> None:
    """Report every key of a merged tree that has no value and needs one."""
    if form is ANYTHING:
        return
    if isinstance(node.value, list):
        inner = form.child("") or ANYTHING
        for number, entry in enumerate(node.value):
            expect_values(entry, inner, (*at, number), report)
        return
    for key, child in node.items():
        if isinstance(form, Table) and key not in form.keys:
            continue
        path = (*at, key)
        if child.value is not None:
            expect_values(child, form.child(key) or ANYTHING, path, report)
        elif not _may_be_absent(form, key):
            report.fault(child, path, "the key has no value: write one, or remove the key")


def _may_be_absent(form: Form, key: str) -> bool:
    if isinstance(form, Table):
        found = form.keys[key]
        return found.takes_null or found.form.takes_null
    return isinstance(form, Entries) and (form.null_keeps or form.form.takes_null)
