"""`--format`: what of Go's templates holds, as Docker's users know it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.gotemplate.evaluate import render
from pyswarm_core.gotemplate.parse import parse

DATA = {
    "Name": "web",
    "Replicas": 3,
    "Init": False,
    "UpdateStatus": None,
    "Spec": {"Labels": {"app": "shop", "tier": "front"}, "Args": ["a", "b"], "Empty": []},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}:{{.Replicas}}", "web:3"),
        ("{{.Init}}", "false"),
        ("{{.Spec.Args}}", "[a b]"),
        ("{{.Spec.Labels}}", "map[app:shop tier:front]"),
        ("{{.Spec.Labels.app}}", "shop"),
        ("{{.Spec.Labels.none}}", "<no value>"),
        ('{{index .Spec.Labels "app"}}', "shop"),
        ('{{.Spec.Label "app"}}{{.Spec.Label "none"}}', "shop"),
        ('{{$spec := .Spec}}{{$spec.Label "app" | upper}}', "SHOP"),
        ('{{index .Spec.Labels "none"}}', "<no value>"),
        ("{{index .Spec.Args 1}}", "b"),
        ("{{json .Spec.Args}}", '["a","b"]'),
        ("{{json .}}", None),
        ("{{.Spec.Args | json}}", '["a","b"]'),
        ("{{.Name | upper | lower | title}}", "Web"),
        ('{{join .Spec.Args ", "}}', "a, b"),
        ('{{split .Name "e"}}', "[w b]"),
        ("{{len .Spec.Args}}", "2"),
        ("{{truncate .Name 2}}", "we"),
        ('{{printf "%s has %d" .Name .Replicas}}', "web has 3"),
        ('{{printf "%-5s|%05d|%v|%%" .Name .Replicas .Spec.Args}}', "web  |00003|[a b]|%"),
        ('{{printf "%q" .Name}}', '"web"'),
        ('{{"a\\tb"}}{{`c\\d`}}', "a\tbc\\d"),
        ("{{if .Init}}yes{{else}}no{{end}}", "no"),
        ('{{if .Spec.Empty}}1{{else if eq .Name "web"}}2{{else}}3{{end}}', "2"),
        ("{{if and .Name (gt .Replicas 2) (not .Init)}}yes{{end}}", "yes"),
        ("{{range .Spec.Args}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range .Spec.Empty}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}};{{end}}", "app=shop;tier=front;"),
        ("{{range $i, $a := .Spec.Args}}{{$i}}{{$a}}{{$.Name}}{{end}}", "0aweb1bweb"),
        ("{{with .Spec}}{{.Args}}{{end}}", "[a b]"),
        ("{{$n := .Name}}{{$n}}!", "web!"),
        ("{{(index .Spec.Args 0)}}", "a"),
        ("{{(.Name)}}{{(index .Spec.Args 0) | upper}}{{$.Spec.Labels.app}}", "webAshop"),
        ("{{($.Spec).Labels.tier}}", "front"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ("{{true}} {{nil}} {{-3}}", "true <no value> -3"),
    ],
)
def test_template_prints_what_go_prints(template: str, text: str | None) -> None:
    shown = render(parse(template), DATA)
    assert text is None or shown == text


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{.Nope}}", "expected one of .Init, .Name, .Replicas, .Spec, .UpdateStatus"),
        ("{{.Name.Deeper}}", "has no fields"),
        (
            "{{.UpdateStatus.State}}",
            ": .UpdateStatus is not set: use {{with .UpdateStatus}}{{.State}}{{end}}",
        ),
        (
            "{{$.UpdateStatus.A.B}}",
            ": $.UpdateStatus is not set: use {{with $.UpdateStatus}}{{.A.B}}",
        ),
        ("{{(.UpdateStatus).State}}", "(...) is not set"),
        ("{{range .Spec.Args}}{{$.UpdateStatus.State}}{{end}}", "$.UpdateStatus is not set"),
        ("{{.Name", "does not end"),
        ("{{end}}", "without a block"),
        ("{{if .Name}}", "without {{end}}"),
        ("{{range .Name}}{{end}}", "cannot range over"),
        ("{{}}", "a value is missing"),
        ("{{shell .Name}}", "expected one of and, eq"),
        ('{{template "x"}}', "template is not supported"),
        ("{{.Name .Name}}", "takes no arguments"),
        ("{{.Name | .Name}}", "expected a function"),
        ("{{index .Spec.Args 9}}", "out of range"),
        ("{{$x}}", "is not set"),
        ("{{(.Name}}", "not closed"),
        ('{{"abc}}', "cannot read"),
        ('{{printf "%d" .Name}}', "cannot call printf"),
        ('{{printf "%999999999d" 1}}', "got %999999999d"),
        ('{{printf "%d"}}', "cannot call printf"),
        ("{{pad .Name 999999999 1}}", "expected 0 to 1000 spaces"),
        ("{{upper 3}}", 'cannot call upper: wrong type of argument: got "3"'),
        ('{{printf "%d" "x"}}', 'cannot call printf: wrong type of argument: got "%d x"'),
        ('{{truncate "x" "y"}}', "cannot call truncate: wrong type of argument"),
        ("{{upper}}", "wrong number of args for upper: want 1 got 0"),
        ('{{upper "a" "b"}}', "wrong number of args for upper: want 1 got 2"),
        ('{{"b" | upper "a"}}', "wrong number of args for upper: want 1 got 2"),
        ("{{len}}", "wrong number of args for len: want 1 got 0"),
        ('{{pad "a" 1}}', "wrong number of args for pad: want 3 got 2"),
        ("{{and}}", "wrong number of args for and: want at least 1 got 0"),
        ("{{or}}", "wrong number of args for or: want at least 1 got 0"),
        ("{{index}}", "wrong number of args for index: want at least 1 got 0"),
        ("{{printf}}", "wrong number of args for printf: want at least 1 got 0"),
        ("{{eq}}", "wrong number of args for eq: want at least 1 got 0"),
        *(
            (f"{{{{{sign}{number}}}}}", "a number has more than 64 bits")
            for number in ("9" * 6000, "9" * 6000 + ".5", "9" * 19)
            for sign in ("", "-")
        ),
        ("{{.}}" * 5000, "expected at most"),
        ("{{if 1}}" * 60, "nested blocks"),
        ("{{" + "(" * 60 + "}}", "parentheses"),
    ],
)
def test_bad_template_is_refused_with_a_reason(template: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match="format") as refused:
        render(parse(template), DATA)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 400


@given(st.text(alphabet='{}.()|$:=,"`- /*NameSpcindxjofrg01%', max_size=40))
def test_prop_any_text_is_rendered_or_refused(template: str) -> None:
    with contextlib.suppress(InvalidArgument):
        render(parse(template), DATA)


@pytest.mark.parametrize(
    ("labels", "key", "text"),
    [
        ("a=1,b=2", "a", "1"),
        ("a=1,2,b=3", "a", "1,2"),
        ("a=x=y,b=", "a", "x=y"),
        ("a=x=y,b=", "b", ""),
        ("a=1", "c", ""),
        ("", "a", ""),
        ("LABELS", "com.example.my-tier", "my tier"),
    ],
)
def test_a_label_of_a_row_is_shown_and_its_heading_is_the_keys_last_part(
    labels: str, key: str, text: str
) -> None:
    assert render(parse(f'{{{{.Label "{key}"}}}}'), {"Labels": labels}) == text


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ('{{.Name "x"}}', "a value takes no arguments"),
        ('{{.Label "x"}}', "field .Labels does not exist"),
        ('{{.Spec.Label "x" "y"}}', "wrong number of args for .Label"),
        ("{{label}}", "expected one of and, eq"),
    ],
)
def test_other_methods_are_refused(template: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        render(parse(template), DATA)
