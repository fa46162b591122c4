"""Names and virtual addresses, as programs in containers meet them."""

from tests.e2e.acceptance.fleet import IMAGE, Fleet
from tests.e2e.acceptance.web import ask, listening


def lookup(fleet: Fleet, task_id: str, name: str) -> set[str]:
    """The addresses that busybox's nslookup finds for a name, in the container."""
    done = fleet.contained(task_id, "/bin/nslookup", name)
    answers = done.out.partition("\n\n")[2]
    words = [line.split() for line in answers.splitlines() if line.startswith("Address")]
    return {line[-1].partition("#")[0] for line in words}


def two(fleet: Fleet, service: str, *flags: str, replicas: int = 3) -> tuple[str, dict[int, str]]:
    """A service and a client: the client's task and the replicas' by slot."""
    fleet(
        *("service", "create", "--name", service, "--network", "app"),
        *("--replicas", str(replicas), *flags, IMAGE),
    )
    client = f"{service}c"
    fleet("service", "create", "--name", client, "--network", "app", IMAGE)
    slots = {int(t["Name"].rpartition(".")[2]): t["ID"] for t in fleet.running(service)}
    listening(fleet, service)
    (caller,) = (task["ID"] for task in fleet.running(client))
    addresses = {fleet.address(task) for task in slots.values()}
    fleet.until(
        lambda: lookup(fleet, caller, f"tasks.{service}") == addresses, "their host knows them"
    )
    return caller, slots


def gone(fleet: Fleet, service: str) -> None:
    fleet.run("service", "rm", f"{service}c")


def test_a_services_name_is_its_virtual_address_and_reaches_every_replica(
    fleet: Fleet, service: str
) -> None:
    client, replicas = two(fleet, service)
    try:
        vip = fleet(
            *("service", "inspect", service, "--format"),
            "{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}",
        )
        assert lookup(fleet, client, service) == {vip.partition("/")[0]}
        own = fleet.address(client)
        seen: set[str] = set()
        for _ in range(40):
            answer = ask(fleet, client, service)
            assert answer is not None
            assert answer.client == own
            seen.add(answer.addresses[0])
        assert seen == {fleet.address(task) for task in replicas.values()}
    finally:
        gone(fleet, service)


def test_tasks_and_slots_have_names(fleet: Fleet, service: str) -> None:
    client, replicas = two(fleet, service)
    try:
        addresses = {slot: fleet.address(task) for slot, task in replicas.items()}
        assert lookup(fleet, client, f"tasks.{service}") == set(addresses.values())
        assert lookup(fleet, client, f"2.{service}") == {addresses[2]}
        name = f"{service}.1.{replicas[1]}"
        assert lookup(fleet, client, name) == {addresses[1]}
        reverse = fleet.contained(client, "/bin/nslookup", addresses[1])
        assert name in reverse.out
    finally:
        gone(fleet, service)


def test_a_service_without_a_virtual_address_resolves_to_its_tasks(
    fleet: Fleet, service: str
) -> None:
    client, replicas = two(fleet, service, "--endpoint-mode", "dnsrr")
    try:
        addresses = {fleet.address(task) for task in replicas.values()}
        assert lookup(fleet, client, service) == addresses
        fleet("service", "scale", f"{service}=1")
        fleet.until(lambda: len(lookup(fleet, client, service)) == 1, "two names have gone")
    finally:
        gone(fleet, service)


def test_a_service_reaches_itself_by_its_name(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", IMAGE)
    (task,) = fleet.running(service)
    listening(fleet, service)
    answer = ask(fleet, task["ID"], service)
    assert answer is not None
    assert answer.addresses[0] == fleet.address(task["ID"])


def test_aliases_and_several_networks(fleet: Fleet, service: str) -> None:
    fleet("network", "create", "-d", "overlay", "back")
    try:
        two(fleet, service, replicas=1)
        fleet("service", "update", "--network-add", "name=back,alias=store", service)
        fleet("service", "update", "--network-add", "back", f"{service}c")
        (task,) = fleet.running(f"{service}c")
        client = task["ID"]
        fleet.until(lambda: ask(fleet, client, "store"), "the alias leads to it")
        assert ask(fleet, client, service) is not None
        fleet("service", "update", "--network-rm", "back", service)
        fleet.until(lambda: ask(fleet, client, "store") is None, "the alias has gone")
        assert ask(fleet, client, service) is not None
    finally:
        gone(fleet, service)
        fleet.run("service", "rm", service)
        fleet.until(lambda: fleet.run("network", "rm", "back").code == 0, "the network is gone")


def test_hosts_and_dns_settings_reach_the_container(fleet: Fleet, service: str) -> None:
    fleet(
        *("service", "create", "--name", service, "--network", "app", "--host", "db:10.9.8.7"),
        *("--dns", "10.99.0.250", "--dns-search", "corp.example", "--dns-option", "timeout:1"),
        IMAGE,
    )
    (task,) = fleet.running(service)
    assert "10.9.8.7\tdb" in fleet.contained(task["ID"], "/bin/cat", "/etc/hosts").out
    conf = fleet.contained(task["ID"], "/bin/cat", "/etc/resolv.conf").out
    assert "nameserver 127.0.0.11" in conf
    assert "search corp.example" in conf
    assert "timeout:1" in conf


def test_predefined_networks(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "host", IMAGE, "sleep", "9999")
    (task,) = fleet.running(service)
    inside = fleet.contained(task["ID"], "/bin/ip", "-4", "addr").out
    assert inside == fleet.on(task["Node"], "busybox", "ip", "-4", "addr").out
    fleet("service", "rm", service)
    fleet("service", "create", "--name", service, "--network", "none", IMAGE)
    (task,) = fleet.running(service)
    links = fleet.contained(task["ID"], "/bin/ip", "-o", "link").out.splitlines()
    assert [line.split()[1] for line in links if "NOARP" not in line] == ["lo:"]
