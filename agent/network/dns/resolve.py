"""Resolves names for a task: addresses of services, slots and tasks on the networks that it joined.
PURE.

A task sees the endpoints of its networks, in the order in which it joined them; the first network
that has addresses for a name answers. Only backends that may receive connections are included. A
name that is not found here (None) is forwarded. A network's index is built at the first query and
dropped when its endpoints change; an endpoint's is kept as long as the endpoint.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from agent.network.base import DesiredEndpoint, DesiredOverlay, EndpointKey
from agent.network.dns import wire
from agent.network.dns.wire import Query
from pyswarm_core.addresses import packed6
from pyswarm_core.ids import NetworkId

TASKS = "tasks"
_V4, _V6 = 4, 16


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer. No rows: the name exists, and has no record of that type."""

    rows: tuple[bytes, ...] = ()
    """The data of one record each."""
    more: bool = False
    """Some rows did not fit."""
    unknown: bool = False
    """The name does not exist (NXDOMAIN)."""


class Directory:
    """The names of all networks of a host. `replace` receives all of them each time."""

    def __init__(self) -> None:
        self._pages: dict[NetworkId, _Page] = {}

    def replace(
        self, overlays: Iterable[DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """Use exactly these networks and endpoints."""
        sorted_: dict[NetworkId, list[DesiredEndpoint]] = {}
        for endpoint in endpoints:
            sorted_.setdefault(endpoint.network_id, []).append(endpoint)
        pages = {}
        for overlay in overlays:
            # The ingress network carries connections, not names: those are on a task's other
            # networks.
            named = [] if overlay.ingress else sorted_.get(overlay.network_id, [])
            before = self._pages.get(overlay.network_id)
            same = before is not None and before.is_of(overlay, named)
            pages[overlay.network_id] = (
                before if before is not None and same else _Page(overlay, named, before)
            )
        self._pages = pages

    def update(self, changed: Mapping[EndpointKey, DesiredEndpoint | None]) -> None:
        """Replace these endpoints (None: remove); all others stay."""
        for key, endpoint in changed.items():
            page = self._pages.get(key[1])
            # The ingress network carries connections, not names.
            if page is not None and not page.overlay.ingress:
                page.change(key, endpoint)

    def has_external_network(self, networks: Iterable[NetworkId]) -> bool:
        """Whether one of these networks is not internal."""
        return any(not page.overlay.internal for page in self._seen(networks))

    def answer(
        self, networks: Sequence[NetworkId], query: Query, turn: int, limit_bytes: int
    ) -> Answer | None:
        """The answer for a task on these networks; None: the query must be forwarded.

        `turn` is any number: it selects which of several addresses comes first.
        """
        if query.klass != wire.INTERNET:
            return None
        if query.kind == wire.PTR and query.name.endswith(".arpa"):
            return self._reverse(networks, query.name)
        six = query.kind == wire.AAAA
        owner, found = self._find(networks, query.name, six=six)
        if owner is None:
            return None
        if not found or query.kind not in (wire.A, wire.AAAA, wire.ANY):
            return Answer()
        most = wire.rows_that_fit(query, _V6 if six else _V4, limit_bytes)
        rows = _rows(found, turn, most)
        more = most * _V4 < len(found)
        return Answer(rows=owner.rows6(rows) if six else rows, more=more)

    def _find(
        self, networks: Sequence[NetworkId], name: str, *, six: bool
    ) -> tuple["_Page | None", bytes]:
        """The network that answers, and the addresses there, four bytes each."""
        seen = self._seen(networks)
        tries = [(page, name) for page in seen]
        # Docker's `web.app`: the name `web` on network `app`.
        tries += [(page, name[: -len(page.suffix)]) for page in seen if name.endswith(page.suffix)]
        owner = None
        for page, label in tries:
            found = page.find(label)
            if found is None:
                continue
            if found and not (six and not page.overlay.subnet6):
                return page, found
            owner = owner or page
        return owner, b""

    def _reverse(self, networks: Sequence[NetworkId], name: str) -> Answer | None:
        address = _address_of(name)
        if address is None:
            return None
        ours = False
        for page in self._seen(networks):
            if (four := page.as_v4(address)) is None:
                continue
            ours = True
            if holder := page.holder(four):
                return Answer(rows=(wire.encoded(holder),))
        return Answer(unknown=True) if ours else None

    def _seen(self, networks: Iterable[NetworkId]) -> list["_Page"]:
        return [page for n in networks if (page := self._pages.get(n)) is not None]


class _Entry:
    """One endpoint; its lookup tables are built at the first query."""

    __slots__ = ("_packed", "_slots", "_vip", "endpoint")

    def __init__(self, endpoint: DesiredEndpoint) -> None:
        self.endpoint = endpoint
        self._vip = _packed(endpoint.vip) if endpoint.vip else b""
        self._packed: bytes | None = None
        self._slots: dict[int, int] | None = None

    @property
    def packed(self) -> bytes:
        """The backends' addresses, four bytes each."""
        if self._packed is None:
            joined = ".".join(backend.address for backend in self.endpoint.backends)
            self._packed = _packed(joined) if joined else b""
        return self._packed

    @property
    def reached(self) -> bytes:
        """The addresses of the service's name."""
        return self._vip or self.packed

    def slot(self, number: int) -> bytes:
        """The address of the slot's backend. If two overlap during an update, the result is stable
        while its task exists.
        """
        if self._slots is None:
            backends = self.endpoint.backends
            order = sorted(range(len(backends)), key=lambda i: backends[i].task_id, reverse=True)
            self._slots = {backends[index].slot: index for index in order}
        index = self._slots.get(number)
        return b"" if index is None else self._at(index)

    def task(self, task_id: str) -> bytes:
        """The address of the task."""
        for index, backend in enumerate(self.endpoint.backends):
            if backend.task_id.lower() == task_id:
                return self._at(index)
        return b""

    def holder(self, address: bytes) -> str:
        """The name of the holder of the address: the service, or one of its tasks."""
        if self._vip == address:
            return self.endpoint.service_name
        at = self.packed.find(address)
        while at >= 0 and at % _V4:
            at = self.packed.find(address, at + 1)
        if at < 0:
            return ""
        backend = self.endpoint.backends[at // _V4]
        return f"{self.endpoint.service_name}.{backend.slot}.{backend.task_id}"

    def _at(self, index: int) -> bytes:
        return self.packed[index * _V4 : (index + 1) * _V4]


class _Page:
    """One network's names."""

    def __init__(
        self, overlay: DesiredOverlay, endpoints: list[DesiredEndpoint], before: "_Page | None"
    ) -> None:
        known = {} if before is None else before._entries
        self.overlay = overlay
        self.suffix = f".{overlay.name.lower()}"
        self._entries: dict[EndpointKey, _Entry] = {}
        for endpoint in endpoints:
            entry = known.get(endpoint.key)
            if entry is None or entry.endpoint is not endpoint:
                entry = _Entry(endpoint)
            self._entries[endpoint.key] = entry
        self._names: dict[str, list[_Entry]] | None = None
        self._first, self._last = _range(IPv4Network(overlay.subnet))
        self._first6, self._last6 = 0, -1
        if overlay.subnet6:
            self._first6, self._last6 = _range(IPv6Network(overlay.subnet6))

    def is_of(self, overlay: DesiredOverlay, endpoints: list[DesiredEndpoint]) -> bool:
        """Whether it was built from these objects."""
        if self.overlay != overlay or len(endpoints) != len(self._entries):
            return False
        known = self._entries
        return all((e := known.get(new.key)) and e.endpoint is new for new in endpoints)

    def change(self, key: EndpointKey, endpoint: DesiredEndpoint | None) -> None:
        """Replace the endpoint; None: remove it."""
        old = self._entries.pop(key, None) if endpoint is None else self._entries.get(key)
        if endpoint is None:
            self._names = None
            return
        new = self._entries[key] = _Entry(endpoint)
        names = _names_of(endpoint)
        if old is None or self._names is None or _names_of(old.endpoint) != names:
            self._names = None
            return
        for name in names:
            entries = self._names[name]
            entries[entries.index(old)] = new

    def find(self, name: str) -> bytes | None:
        """The addresses of a name; None: the network has no such name."""
        names = self._names
        if names is None:
            names = self._names = self._index()
        if entries := names.get(name):
            return b"".join(entry.reached for entry in entries)
        head, _, rest = name.partition(".")
        if entries := names.get(rest):
            if head == TASKS:
                return b"".join(entry.packed for entry in entries)
            if _is_number(head):
                return b"".join(entry.slot(int(head)) for entry in entries)
        if entries := names.get(head):
            return _task(entries, rest)
        return None

    def holder(self, address: bytes) -> str:
        """The name of the holder of the address."""
        return next(filter(None, (e.holder(address) for e in self._entries.values())), "")

    def as_v4(self, address: IPv4Address | IPv6Address) -> bytes | None:
        """The IPv4 address itself, or the one that corresponds to an IPv6 address; None: outside
        the network.
        """
        number = int(address)
        if address.version == 6:
            if not self._first6 <= number <= self._last6:
                return None
            number += self._first - self._first6
        if not self._first <= number <= self._last:
            return None
        return number.to_bytes(_V4)

    def rows6(self, rows: Iterable[bytes]) -> tuple[bytes, ...]:
        """The IPv6 addresses that correspond to these."""
        subnet, subnet6 = self.overlay.subnet, self.overlay.subnet6
        return tuple(packed6(subnet, subnet6, row) for row in rows)

    def _index(self) -> dict[str, list[_Entry]]:
        names: dict[str, list[_Entry]] = {}
        for entry in self._entries.values():
            for name in _names_of(entry.endpoint):
                names.setdefault(name, []).append(entry)
        return names


def _names_of(endpoint: DesiredEndpoint) -> tuple[str, ...]:
    """The endpoint's names, without duplicates."""
    names = (endpoint.service_name, *endpoint.aliases)
    return tuple(dict.fromkeys(name.lower() for name in names))


def _task(entries: list[_Entry], rest: str) -> bytes | None:
    """`web.1`, `web.1.<task id>`, and `web.<node id>.<task id>` of a global service."""
    middle, _, task_id = rest.partition(".")
    if _is_number(middle) and not task_id:
        return b"".join(entry.slot(int(middle)) for entry in entries)
    found = b"".join(entry.task(task_id) for entry in entries) if task_id else b""
    return found if found or _is_number(middle) else None


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal()


def _rows(found: bytes, turn: int, most: int) -> tuple[bytes, ...]:
    """As many addresses as fit, starting at the place that `turn` selects."""
    count = len(found) // _V4
    places = ((turn + step) % count for step in range(min(most, count)))
    return tuple(found[place * _V4 : (place + 1) * _V4] for place in places)


def _packed(addresses: str) -> bytes:
    # One or many, joined by dots: far faster than one IPv4Address each, and there may be many.
    return bytes(map(int, addresses.split(".")))


def _range(network: IPv4Network | IPv6Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _address_of(name: str) -> IPv4Address | IPv6Address | None:
    """The address of a name below in-addr.arpa or ip6.arpa."""
    labels = name.split(".")
    digits = labels[-3::-1]
    try:
        if labels[-2] == "in-addr":
            return IPv4Address(".".join(digits))
        if labels[-2] == "ip6" and len(digits) == 32:
            return IPv6Address(int("".join(digits), 16))
    except ValueError:
        pass
    return None
