"""Any value of any key loads or is refused; what loads is printed, and loads as the same."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.docker3 import version_3
from compose.dump import as_json, as_yaml, hash_of
from compose.keys.fates import endings
from compose.keys.service import SERVICE
from compose.keys.toplevel import TOP
from compose.model import Loaded
from compose.report import Refused
from pyswarm_core.errors import InvalidArgument
from tests.fixtures.composing import loaded

_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=8),
    st.sampled_from(
        ["a", "b", "80:80", "./x", "a=b", "1g", "5s", "service:b", "ro", "/x", "host", "0440"]
    ),
)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 70_000), st.floats(), _TEXTS)
_NAMES = st.one_of(
    _TEXTS,
    st.sampled_from(
        "source target type path condition test context name driver external soft hard resources "
        "limits cpus replicas labels config subnet x-a".split()
    ),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


def attempt(document: Any, *later: Any) -> Loaded | None:
    texts = [json.dumps(one) for one in (document, *later)]
    files = {f"{number}.yaml": text for number, text in enumerate(texts)}
    try:
        return loaded(files, files=tuple(files))
    except Refused as error:
        places = [fault.place for fault in error.faults]
        assert None not in places
        return None


@given(st.sampled_from(sorted(SERVICE.keys)), _VALUES, _VALUES)
def test_any_value_of_a_key_of_a_service(key: str, value: Any, later: Any) -> None:
    first = {"services": {"a": {"image": "x", key: value}, "b": {"image": "y"}}}
    second = {"services": {"a": {key: later}}}
    for found in (attempt(first), attempt(first, second)):
        if found is not None:
            look_at(found)


@given(st.sampled_from(sorted(TOP.keys)), _VALUES, _VALUES)
def test_any_value_of_a_key_of_the_top_level(key: str, value: Any, later: Any) -> None:
    first = {"services": {"a": {"image": "x"}}, key: value}
    with suppress(InvalidArgument):
        if (found := attempt(first, {key: later})) is not None:
            look_at(found)


_OPEN = st.sampled_from(["${A}", "$B", "${A:-b}:80", "x"])
_OPEN_VALUES = st.one_of(
    _OPEN, st.lists(_OPEN, max_size=2), st.dictionaries(_NAMES, _OPEN | _SCALARS, max_size=3)
)


@given(st.sampled_from(sorted(SERVICE.keys)), _OPEN_VALUES, _OPEN_VALUES)
def test_any_value_with_variables_that_stay(key: str, value: Any, later: Any) -> None:
    first = {"services": {"a": {"image": "x", key: value}, "b": {"image": "y"}}}
    files = {"0": json.dumps(first), "1": json.dumps({"services": {"a": {key: later}}})}
    with suppress(Refused):
        found = loaded(files, files=tuple(files), interpolates=False)
        as_yaml(found.model, keeps_variables=True)


def look_at(found: Loaded) -> None:
    """Whatever is made of a model works for it."""
    list(endings(found.tree))
    version_3(found.model, found.versions)
    for service in found.model["services"].values():
        assert len(hash_of(service)) == 64
    for text in (as_yaml(found.model), as_json(found.model)):
        again = loaded({"printed.yaml": text}, files=("printed.yaml",), profiles=("*",))
        assert repr(again.model) == repr(found.model) or again.model == found.model


_ENTRIES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    st.text(st.characters(codec="utf-8"), max_size=30),
    max_size=5,
)


@given(_ENTRIES)
def test_any_text_is_printed_so_that_it_is_read_again(entries: dict[str, str]) -> None:
    labels = {name: text.replace("$", "$$") for name, text in entries.items()}
    found = loaded(json.dumps({"services": {"a": {"image": "x", "labels": labels}}}))
    assert found.model["services"]["a"].get("labels", {}) == entries
    assert loaded(as_yaml(found.model)).model == found.model


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_loaded(data: bytes) -> None:
    with suppress(Refused):
        loaded({"compose.yaml": data})


@given(st.text("{}[]:,-&*!|>'\"#%@`<? \n\tab$0", max_size=40))
def test_any_yaml_is_refused_or_loaded(text: str) -> None:
    with suppress(InvalidArgument):
        loaded({"compose.yaml": f"x-a: {text}\nservices: {{a: {{image: x}}}}\n"})


@pytest.mark.parametrize("text", ["0o644", "yes", "~", "1e3", "=", "<<", "!reset", "a: b", "- a"])
def test_words_that_are_read_as_others_are_quoted(text: str) -> None:
    found = loaded(json.dumps({"services": {"a": {"image": "x", "labels": {text: text}}}}))
    assert loaded(as_yaml(found.model)).model["services"]["a"]["labels"] == {text: text}
