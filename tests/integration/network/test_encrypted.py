"""Encrypted networks between hosts: encrypted where the kernel can, refused where it cannot.

The underlay is captured from outside, and plaintext frames are sent from there.
"""

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from agent.network.base import Attachment, DesiredOverlay, NetworkFailed, Peer
from agent.network.encryption.ipsec import (
    REKEY_PACKETS,
    direction_key,
    encrypted_mtu,
    sending_key,
    spi,
)
from agent.network.filter.host import PLAINTEXT
from agent.network.names import Names
from pyswarm_core.addresses import address6
from pyswarm_core.clock import Instant
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, TaskId
from tests.fixtures.netns import inside
from tests.integration.network.hosts import Host, Rig, ping
from tests.integration.network.traffic import open_socket
from tests.integration.network.wire import ESP, UDP, Wire

SECRET, PLAIN = NetworkId("netsecret"), NetworkId("netplain")
SUBNETS = {SECRET: ("10.128", 4097), PLAIN: ("10.129", 4098)}
SUBNET6 = "fd00:128::/64"
NAMES = Names("tst")
PORT = 8080
PHRASE = b"attack at dawn; "

needs_esp = pytest.mark.esp(True)
lacks_esp = pytest.mark.esp(False)


def key(number: int) -> EncryptionKey:
    secret = hashlib.blake2s(bytes((number,)), digest_size=20).digest()
    return EncryptionKey(number=number, secret=secret, created_at=Instant(number))


FIRST = (key(1),)
ROTATIONS = [
    (key(2), key(1)),
    (key(3), key(2), key(1)),
    (key(4), key(3), key(2)),
    (key(5), key(4), key(3)),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("secret"), 2)
    yield made
    made.close()


@pytest.fixture
def hosts(rig: Rig) -> Iterator[list[Host]]:
    """Two hosts that carry an encrypted and a plain network; nothing may be left behind."""
    for host in rig.hosts:
        carry(host, FIRST)
    yield rig.hosts
    for host in rig.hosts:
        for task in host.run(host.dataplane.found()):
            host.run(host.dataplane.detach(task))
        host.run(host.dataplane.sync(()))
        assert (states(host), policies(host), host.nsenter("nft list tables")) == ("", "", "")


def carry(host: Host, keys: tuple[EncryptionKey, ...], *networks: NetworkId) -> None:
    desired = [overlay(host, network, keys) for network in networks or (SECRET, PLAIN)]
    host.run(host.dataplane.sync(desired))


def overlay(host: Host, network: NetworkId, keys: tuple[EncryptionKey, ...]) -> DesiredOverlay:
    prefix, vni = SUBNETS[network]
    other = 3 - host.number
    peer = Peer(
        node_number=other, address=f"192.168.77.{10 + other}", blocks=(f"{prefix}.{other}.0/26",)
    )
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        node_number=host.number, local_blocks=(f"{prefix}.{host.number}.0/26",), peers=(peer,),
        encrypted=network == SECRET, encryption_keys=keys if network == SECRET else (),
        subnet6=SUBNET6 if network == SECRET else "",
    )  # fmt: skip


def attach(host: Host, network: NetworkId) -> str:
    place = Attachment(network_id=network, address=f"{SUBNETS[network][0]}.{host.number}.2")
    return host.run(host.dataplane.attach(TaskId(f"{network}{host.number}"), [place]))


def states(host: Host) -> str:
    return host.ip("xfrm state")


def policies(host: Host) -> str:
    return host.ip("xfrm policy")


def plaintext(host: Host) -> int:
    """The number of plaintext packets of encrypted networks that the host dropped."""
    return host.call(partial(host.dataplane.filter.dropped, PLAINTEXT))


def transfer(near: str, far: str, address: str, size: int = 1 << 20) -> bool:
    """Send the phrase by TCP from one namespace to another many times. Returns whether all of it
    arrived.
    """
    sent = PHRASE * (size // len(PHRASE))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server, client = (open_socket(task, socket.SOCK_STREAM, family) for task in (far, near))
    with server, client:
        server.settimeout(60)
        client.settimeout(60)
        server.bind((address, PORT))
        server.listen()

        def send() -> None:
            client.connect((address, PORT))
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(60)
            received = b"".join(iter(lambda: accepted.recv(1 << 16), b""))
        sender.join()
    return received == sent


@needs_esp
def test_packets_of_tasks_are_encrypted_between_hosts(hosts: list[Host], rig: Rig) -> None:
    near, far = (attach(host, SECRET) for host in hosts)
    with Wire(rig, 1, PHRASE) as wire:
        assert ping(near, "10.128.2.2", timeout_s=60)
        assert ping(far, "10.128.1.2", timeout_s=60)
        assert transfer(near, far, "10.128.2.2")
        assert transfer(far, near, "10.128.1.2")
        assert transfer(near, far, address6("10.128.0.0/16", SUBNET6, "10.128.2.2"))
    assert (wire.phrases, wire.protocols[UDP]) == (0, 0)
    assert wire.protocols[ESP] > 3 * (1 << 20) // 1500
    assert wire.spis == {spi(1, 1), spi(1, 2)}


def test_a_plain_network_beside_it_stays_plain(hosts: list[Host], rig: Rig) -> None:
    near, far = (attach(host, PLAIN) for host in hosts)
    with Wire(rig, 1, PHRASE) as wire:
        assert ping(near, "10.129.2.2", timeout_s=60)
        assert transfer(near, far, "10.129.2.2")
    assert wire.phrases > 0, "the watcher would see the phrase"
    assert wire.protocols[ESP] == 0


@needs_esp
def test_the_largest_packet_leaves_in_one_piece(hosts: list[Host], rig: Rig) -> None:
    near, _ = (attach(host, SECRET) for host in hosts)
    largest = encrypted_mtu(1500)
    with Wire(rig, 1, PHRASE) as wire:
        assert ping(near, "10.128.2.2", payload=largest - 28, timeout_s=60)
        assert not ping(near, "10.128.2.2", payload=largest - 26, timeout_s=0.5)
    assert (wire.largest, wire.fragments) == (1500, 0)


def checksum(header: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    folded = int((total & 0xFFFF) + (total >> 16))
    return (~folded & 0xFFFF).to_bytes(2)


def clear_frame(network: NetworkId) -> bytes:
    """A VXLAN payload: the phrase, by UDP from the task on host 2 to the one on host 1."""
    prefix, vni = SUBNETS[network]
    source, target = (socket.inet_aton(f"{prefix}.{number}.2") for number in (2, 1))
    udp = struct.pack("!HHHH", 9, PORT, 8 + len(PHRASE), 0) + PHRASE
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    head = head[:10] + checksum(head) + head[12:]
    ethernet = bytes.fromhex("0270000000010270000000020800")
    return struct.pack("!II", 0x08000000, vni << 8) + ethernet + head + udp


@pytest.mark.parametrize(
    ("network", "arrives"), [pytest.param(SECRET, False, marks=needs_esp), (PLAIN, True)]
)
def test_a_clear_frame_from_the_underlay_enters_only_a_plain_network(
    hosts: list[Host], rig: Rig, network: NetworkId, arrives: bool
) -> None:
    task = attach(hosts[0], network)
    sender = inside(rig.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with open_socket(task, socket.SOCK_DGRAM) as server, sender:
        server.bind(("", PORT))
        sender.sendto(clear_frame(network), (hosts[0].address, 4789))
        if arrives:
            assert server.recv(100) == PHRASE
            return
        server.settimeout(1)
        with pytest.raises(TimeoutError):
            server.recv(100)
    assert plaintext(hosts[0]) == 1


@needs_esp
def test_without_its_policies_a_host_sends_nothing_and_heals(hosts: list[Host], rig: Rig) -> None:
    near, _ = (attach(host, SECRET) for host in hosts)
    assert ping(near, "10.128.2.2", timeout_s=60)
    for lost in ("policy", "state"):
        hosts[0].ip(f"xfrm {lost} flush")
        with Wire(rig, 1, PHRASE) as wire:
            assert not ping(near, "10.128.2.2", timeout_s=0.5)
        assert (wire.protocols[UDP], wire.protocols[ESP]) == (0, 0)
        drifts = hosts[0].run(hosts[0].dataplane.check())
        assert {(drift.kind, drift.detail.split()[0]) for drift in drifts} == {("xfrm", lost)}
        carry(hosts[0], FIRST)
        assert hosts[0].run(hosts[0].dataplane.check()) == ()
        assert ping(near, "10.128.2.2", timeout_s=60)
    assert plaintext(hosts[0]) > 0


class Stream:
    """Numbered datagrams from one task to another until the block ends."""

    def __init__(self, near: str, far: str, address: str) -> None:
        self._client, self._server = (open_socket(task, socket.SOCK_DGRAM) for task in (near, far))
        self._server.bind((address, PORT))
        self._client.connect((address, PORT))
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=work) for work in (self._send, self._receive)
        ]  # fmt: skip
        self.sent = 0
        self.received: set[int] = set()

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _send(self) -> None:
        while not self._end.wait(0.002):
            self._client.send(self.sent.to_bytes(4) + PHRASE)
            self.sent += 1
        self._client.send(b"")

    def _receive(self) -> None:
        self._server.settimeout(60)
        while data := self._server.recv(100):
            self.received.add(int.from_bytes(data[:4]))

    @property
    def lost(self) -> int:
        return self.sent - len(self.received)


@needs_esp
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_new_keys_lose_no_packet_whoever_hears_first(
    hosts: list[Host], rig: Rig, order: tuple[int, int]
) -> None:
    near, far = (attach(host, SECRET) for host in hosts)
    streams = Stream(near, far, "10.128.2.2"), Stream(far, near, "10.128.1.2")
    with Wire(rig, 1, PHRASE) as wire, streams[0], streams[1]:
        for keys in ROTATIONS:
            for index in order:
                before = streams[0].sent, streams[1].sent
                carry(hosts[index], keys)
                while any(s.sent < was + 20 for s, was in zip(streams, before, strict=True)):
                    threading.Event().wait(0.01)
    print([(stream.sent, stream.lost) for stream in streams])  # noqa: T201  # for the reader
    assert [stream.lost for stream in streams] == [0, 0]
    used = {sending_key(keys).number for keys in (FIRST, *ROTATIONS)}
    assert wire.spis == {spi(number, source) for number in used for source in (1, 2)}
    assert (wire.phrases, wire.protocols[UDP]) == (0, 0)


def made_anew(host: Host, last_sent: int) -> None:
    """Set the number of packets sent by the association to the other host."""
    near, far = host.address, f"192.168.77.{13 - host.number}"
    name = f"src {near} dst {far} proto esp spi {spi(1, host.number):#x}"
    host.ip(f"xfrm state delete {name}")
    secret = direction_key(FIRST[0].secret, host.number, 3 - host.number).hex()
    host.ip(
        f"xfrm state add {name} reqid {NAMES.request_id(3 - host.number)} mode transport"
        f" replay-oseq {last_sent:#x} aead 'rfc4106(gcm(aes))' 0x{secret} 128"
        f" sel src {near}/32 dst {far}/32 proto udp dport 4789"
    )


@needs_esp
def test_an_association_that_has_sent_half_of_its_packets_is_noticed(hosts: list[Host]) -> None:
    host = hosts[0]
    near, _ = (attach(host, SECRET) for host in hosts)
    for last_sent, worn in ((REKEY_PACKETS - 2, 0), (REKEY_PACKETS - 1, 1)):
        made_anew(host, last_sent)
        assert host.run(host.dataplane.check()) == ()
        assert host.dataplane.overlay.worn_key() == 0
        assert ping(near, "10.128.2.2", timeout_s=60)
        assert host.run(host.dataplane.check()) == ()
        assert host.dataplane.overlay.worn_key() == worn
    carry(host, ROTATIONS[1])
    assert host.run(host.dataplane.check()) == ()
    assert host.dataplane.overlay.worn_key() == 0, "it sends with the next"


@needs_esp
def test_an_association_that_has_sent_all_of_its_packets_sends_no_more(
    hosts: list[Host], rig: Rig
) -> None:
    near, _ = (attach(host, SECRET) for host in hosts)
    made_anew(hosts[0], 0xFFFFFFFE)
    with Wire(rig, 1, PHRASE) as wire:
        assert ping(near, "10.128.2.2", timeout_s=60)
        assert not ping(near, "10.128.2.2", timeout_s=0.5)
    assert wire.protocols[UDP] == 0
    for host in hosts:
        carry(host, ROTATIONS[1])
    assert ping(near, "10.128.2.2", timeout_s=60)


@needs_esp
def test_iproute2_reads_what_we_wrote(hosts: list[Host]) -> None:
    there, policy = states(hosts[0]), policies(hosts[0])
    out = there.split("src 192.168.77.11 dst 192.168.77.12")[1].split("\nsrc ")[0]
    assert f"spi {spi(1, 1):#010x}" in out
    assert f"reqid {NAMES.request_id(2)}" in out
    assert "mode transport" in out
    key_words = f"rfc4106(gcm(aes)) 0x{direction_key(FIRST[0].secret, 1, 2).hex()} 128"
    assert key_words in out
    assert "src 192.168.77.11/32 dst 192.168.77.12/32 proto udp dport 4789" in policy
    assert "dir out" in policy
    assert f"mark {NAMES.encryption_mark:#x}/0xfffff00" in policy


@needs_esp
def test_a_restarted_agent_finds_all_as_it_should_be(hosts: list[Host]) -> None:
    before = states(hosts[0])
    hosts[0].restart()
    carry(hosts[0], FIRST)
    assert states(hosts[0]) == before
    assert hosts[0].run(hosts[0].dataplane.check()) == ()


@needs_esp
def test_others_associations_and_policies_are_let_be(hosts: list[Host]) -> None:
    host = hosts[0]
    host.ip(
        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x999 reqid 7 mode tunnel"
        " aead 'rfc4106(gcm(aes))' 0x0000000000000000000000000000000000000007 128"
    )
    host.ip(
        "xfrm policy add src 192.0.2.0/24 dst 192.0.2.0/24 dir out"
        " tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel"
    )
    carry(host, FIRST, PLAIN)
    assert "reqid 7" in states(host)
    assert "reqid 7" in policies(host)
    assert "192.168.77" not in states(host) + policies(host), "the last encrypted network has left"
    host.ip("xfrm policy flush")
    host.ip("xfrm state flush")


def test_without_keys_no_device_of_an_encrypted_network_is_left(hosts: list[Host]) -> None:
    for host in hosts:
        carry(host, ())
        with pytest.raises(NetworkFailed, match="network secret is encrypted: "):
            attach(host, SECRET)
        assert NAMES.vxlan(SECRET) not in host.ip("-o link")
        assert NAMES.vxlan(PLAIN) in host.ip("-o link")
        assert host.run(host.dataplane.check()) == ()


@lacks_esp
def test_a_kernel_without_esp_refuses_encrypted_networks_alone(hosts: list[Host]) -> None:
    for host in hosts:
        with pytest.raises(NetworkFailed, match=r"network secret is encrypted: .*CONFIG_INET_ESP"):
            attach(host, SECRET)
        assert host.run(host.dataplane.found()) == set()
        links = host.ip("-o link")
        assert NAMES.vxlan(SECRET) not in links
        assert NAMES.bridge(SECRET) not in links
        assert NAMES.vxlan(PLAIN) in links
        assert host.run(host.dataplane.check()) == ()
