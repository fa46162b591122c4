"""Swarm's templates: what they may name, their text, their errors."""

import pytest
from msgspec.structs import replace

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.templates.context import (
    FUNCTIONS,
    expand,
    names,
    require,
    task_context,
)
from pyswarm_core.templates.specs import expanded, names_labels, templates_of
from pyswarm_core.volumes.mounts import Driver, Mount, VolumeOptions

CONTEXT = task_context(
    service_id="s1",
    service_name="db",
    service_labels={"tier": "back", "a-b": "c"},
    task_id="t1",
    slot=3,
    node_id="n1",
    hostname="host-1",
    os="linux",
    architecture="amd64",
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Service.ID}}/{{.Service.Name}}", "s1/db"),
        ("{{.Service.Labels.tier}}", "back"),
        ('{{index .Service.Labels "a-b"}}', "c"),
        ('<{{index .Service.Labels "none"}}>', "<>"),
        ("{{.Node.ID}} {{.Node.Hostname}}", "n1 host-1"),
        ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/amd64"),
        ("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "t1 db.3.t1 3"),
        ('{{join "-" .Service.Name .Task.Slot}}', "db-3"),
        ('{{if eq .Task.Slot "3"}}third{{else}}other{{end}}', "third"),
        ("{{with .Node.Platform}}{{.OS}}{{end}}", "linux"),
        ("{{range $k, $v := .Service.Labels}}{{$k}}={{$v}};{{end}}", "a-b=c;tier=back;"),
        ('{{"{{"}}.Values.x{{"}}"}}', "{{.Values.x}}"),
        ("{{`{{.x}}`}}", "{{.x}}"),
        ("{{- /* it's \"x */ -}} x", "{{- /* it's \"x */ -}} x"),
    ],
)
def test_text(template: str, text: str) -> None:
    if template.startswith("{{- /*"):
        text = "x"
    require("--env", template)
    assert expand("--env", template, CONTEXT) == text


def test_a_global_services_slot_is_its_node() -> None:
    context = task_context(
        service_id="s", service_name="g", service_labels={}, task_id="t", slot=7, node_id="n",
        is_global=True,
    )  # fmt: skip
    assert expand("--env", "{{.Task.Slot}} {{.Task.Name}}", context) == "n g.n.t"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{.Foo}}", "field .Foo does not exist: expected one of .Service, .Node, .Task"),
        ("{{.Task.Number}}", "field .Task.Number does not exist: expected one of .ID, .Name"),
        ('{{if eq "a" "b"}}{{.Task.Number}}{{end}}', "field .Task.Number does not exist"),
        ("{{with .Task}}{{$.Nod}}{{end}}", "field .Nod does not exist"),
        ("{{.Task.Slot.x}}", "field .Task.Slot.x does not exist: expected no field of a text"),
        ("{{.Task.Slot", "an action does not end"),
        ("{{end}}", "{{end}} without a block before it"),
        ("{{lower .Task.Slot}}", "function lower does not exist: expected one of and, eq"),
        ('{{secret "x"}}', "function secret does not exist"),
    ],
)
def test_what_is_not_valid_is_named_with_the_remedy(template: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        require("--env", template)
    assert str(caught.value).startswith("--env: template ")
    assert told in str(caught.value)
    assert 'a literal {{ is written {{"{{"}}' in str(caught.value)


def test_a_label_that_the_service_lacks_is_an_error() -> None:
    require("--env", "{{.Service.Labels.none}}")
    with pytest.raises(InvalidArgument, match=r"field \.none does not exist: expected one of"):
        expand("--env", "{{.Service.Labels.none}}", CONTEXT)


def test_fields_that_are_allowed() -> None:
    slot = frozenset({".Task.Slot", ".Service.Name", ".Service.ID", ".Service.Labels"})
    require("--mount", "{{.Task.Slot}}{{.Service.Labels.x}}{{.Service.Name}}", slot)
    for template in ("{{.Task.ID}}", "{{.Task}}", "{{.}}", "{{with .Task}}{{.Slot}}{{end}}"):
        with pytest.raises(InvalidArgument, match=r"is not known there: expected \.Service\.ID"):
            require("--mount", template, slot)


def test_which_fields_are_named() -> None:
    assert names("{{.Service.Labels.x}}", ".Service.Labels")
    assert names("{{printf `%v` .Service}}", ".Service.Labels")
    assert not names("{{.Service.Name}}", ".Service.Labels")
    assert not names("no template .Service.Labels", ".Service.Labels")


@pytest.mark.parametrize(
    "template",
    [
        '{{$a := "xxxxxxxxxxxxxxxx"}}' + "{{$a := print $a $a}}" * 200,
        "{{range $.Service.Labels}}" * 12 + "x" + "{{end}}" * 12,
        "{{.Service.Name}}" + "{{printf `%900s` `x`}}" * 20,
    ],
)
def test_an_expansion_is_bounded(template: str) -> None:
    with pytest.raises(InvalidArgument, match=r"too long|too many steps"):
        expand("--env", template, CONTEXT)


MANY = task_context(
    service_id="s1",
    service_name="db",
    service_labels={"a": "x" * 9_000, **{f"k{number}": "" for number in range(240)}},
    slot=1,
)
LONG = "{{$x := .Service.Labels.a}}"


@pytest.mark.parametrize(
    "template",
    [
        LONG + "{{len (print " + "$x " * 3_000 + ")}}",
        LONG + "{{len (print " + "(len (print $x)) " * 500 + ")}}",
        LONG + "{{range .Service.Labels}}{{print $x | len}}{{end}}",
        LONG + "{{range .Service.Labels}}{{eq (printf `%q` $x) $x}}{{end}}",
        "{{$x := .Service.Labels}}" + "{{if eq $x $x $x $x $x $x $x $x}}{{end}}" * 2,
        "{{range .Service.Labels}}" + "{{range $.Service.Labels}}{{end}}" * 9 + "{{end}}",
        "{{if and " + "1 " * 2_000 + "}}{{end}}",
        "{{range .Service.Labels}}{{true | not | not | not | not | not | not | not}}{{end}}",
    ],
)
def test_the_work_of_an_expansion_is_bounded(template: str) -> None:
    """Values that are computed count, also those that are not shown, and what they are made of."""
    with pytest.raises(InvalidArgument, match=r"reads too much|too many steps"):
        expand("--env", template, MANY)


def test_what_functions_look_up_does_not_count() -> None:
    template = "{{index .Service.Labels `k1`}}{{len .Service.Labels}}" * 100
    assert expand("--env", template, MANY) == "241" * 100


def test_a_mount_may_take_fewer_steps() -> None:
    mount = Mount(source="a", target="/" + "{{.Task.Slot}}" * 90)
    spec = ContainerSpec(image="a", mounts=(mount,))
    assert expanded(spec, CONTEXT).mounts[0].target == "/" + "3" * 90
    longer = ContainerSpec(image="a", mounts=(replace(mount, target=mount.target * 2),))
    with pytest.raises(InvalidArgument, match="too many steps"):
        expanded(longer, CONTEXT)


def test_a_payload_has_more_functions() -> None:
    def secret(name: str) -> str:
        if name != "password":
            raise ValueError(f"secret {name} is not a secret of the service")
        return "hunter2"

    functions = {**FUNCTIONS, "secret": secret}
    require("config", 'x={{secret "password"}}', functions=functions)
    assert expand("config", 'x={{secret "password"}}', CONTEXT, functions) == "x=hunter2"
    with pytest.raises(InvalidArgument, match="secret other is not a secret of the service"):
        expand("config", '{{secret "other"}}', CONTEXT, functions)


def test_a_spec_is_expanded_where_docker_does() -> None:
    options = VolumeOptions(
        labels={"slot": "{{.Task.Slot}}"}, driver_config=Driver(options={"o": "{{.Service.Name}}"})
    )
    mount = Mount(source="data-{{.Task.Slot}}", target="/d/{{.Node.ID}}", volume_options=options)
    spec = ContainerSpec(
        image="a{{.Task.Slot}}",
        args=("{{.Task.Slot}}",),
        env=("A={{.Task.Slot}}={{.Service.Name}}", "{{.x}}=b", "C"),
        hostname="{{.Service.Name}}-{{.Task.Slot}}",
        mounts=(mount,),
        labels={"l": "{{.Task.Slot}}"},
    )
    found = expanded(spec, CONTEXT)
    assert (found.image, found.args, found.labels) == (spec.image, spec.args, spec.labels)
    assert found.env == ("A=3=db", "{{.x}}=b", "C")
    assert found.hostname == "db-3"
    assert (found.mounts[0].source, found.mounts[0].target) == ("data-3", "/d/n1")
    made = found.mounts[0].volume_options
    assert made is not None
    assert (made.labels, made.driver_config.options) == ({"slot": "3"}, {"o": "db"})
    assert len(list(templates_of(spec))) == 6
    assert not names_labels(spec)
    assert names_labels(ContainerSpec(image="a", env=("A={{.Service.Labels.x}}",)))


def test_a_spec_without_templates_stays_as_it_is() -> None:
    spec = ContainerSpec(image="a", env=("A=b",), mounts=(Mount(source="v", target="/v"),))
    assert expanded(spec, CONTEXT) is spec
