"""A service of many replicas: its names, its rules, its connections."""

import json
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import pytest

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.rules import behind, vip_of
from tests.e2e.acceptance.web import LATE_S, ask_from
from tests.fixtures.netns import inside

pytestmark = pytest.mark.slow

RESOLVER = "127.0.0.11"


@pytest.fixture
def client(fleet: Fleet, service: str) -> Iterator[str]:
    """A task on the network app."""
    name = f"{service}c"
    fleet("service", "create", "--name", name, "--network", "app", IMAGE)
    yield fleet.running(name)[0]["ID"]
    fleet.run("service", "rm", name)


def asked(fleet: Fleet, client: str, name: str, *, tcp: bool) -> tuple[set[str], bool]:
    """The addresses of a name, and whether the answer was cut short."""
    way = dns.query.tcp if tcp else dns.query.udp
    question = dns.message.make_query(name, "A", use_edns=False)
    answer = inside(fleet.netns(client), lambda: way(question, RESOLVER, timeout=LATE_S))
    found = {str(item) for records in answer.answer for item in records}
    return found, bool(answer.flags & dns.flags.TC)


def addresses(fleet: Fleet, service: str) -> set[str]:
    """Of all replicas that run."""
    ids = [task["ID"] for task in fleet.running(service)]
    tasks = json.loads(fleet("task", "inspect", *ids))
    found = {task["NetworksAttachments"][0]["Addresses"][0].partition("/")[0] for task in tasks}
    assert len(found) == len(ids)
    return found


@pytest.mark.parametrize("count", [120, pytest.param(500, marks=pytest.mark.nightly)])
def test_a_service_of_many_backends(fleet: Fleet, service: str, client: str, count: int) -> None:
    many = ("--replicas", str(count), "--network", "app")
    fleet("service", "create", "--name", service, *many, IMAGE)
    names, vip, everybody = f"tasks.{service}.", vip_of(fleet, service), addresses(fleet, service)
    assert len(everybody) == count
    fleet.until(
        lambda: asked(fleet, client, names, tcp=True) == (everybody, False), "all are named by TCP"
    )
    some, is_cut = asked(fleet, client, names, tcp=False)
    assert is_cut
    assert some < everybody
    assert asked(fleet, client, f"{service}.", tcp=False) == ({vip}, False)
    fleet.until(
        lambda: behind(fleet, client, vip) == everybody,
        "the virtual address leads to all",
    )
    fleet.until(lambda: all(ask_from(fleet, client, one) for one in everybody), "all listen")
    found = [ask_from(fleet, client, vip, timeout_s=LATE_S) for _ in range(100)]
    assert all(found)
    met = {answer.addresses[0] for answer in found if answer}
    assert met <= everybody
    # 100 draws meet 91 of 500 backends and 68 of 120, give or take 4.
    assert len(met) > 50

    fleet("service", "scale", f"{service}=1")
    (left,) = addresses(fleet, service)
    fleet.until(
        lambda: behind(fleet, client, vip) == {left},
        "the virtual address leads to the one that is left",
    )
    assert asked(fleet, client, names, tcp=False) == ({left}, False)
