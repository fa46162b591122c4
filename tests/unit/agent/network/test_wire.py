"""DNS messages, compared with dnspython's byte by byte."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.dns import wire
from agent.network.dns.wire import Query, Unreadable, answer, read


def asked(name: str, kind: str = "A", payload: int | None = None) -> dns.message.QueryMessage:
    return dns.message.make_query(name, kind, payload=payload)


def query(name: str = "web", kind: str = "A", payload: int | None = None) -> Query:
    return query_of(asked(name, kind, payload))


def query_of(message: dns.message.QueryMessage) -> Query:
    found = read(message.to_wire())
    assert isinstance(found, Query)
    return found


def addresses(count: int) -> list[bytes]:
    return [bytes((10, 128, number >> 8, number & 255)) for number in range(count)]


def test_a_question_is_read_without_its_capitals_and_last_dot() -> None:
    found = query("Tasks.WEB.", "AAAA")
    assert (found.name, found.kind, found.klass) == ("tasks.web", wire.AAAA, wire.INTERNET)


def test_the_answer_repeats_the_question_letter_by_letter() -> None:
    message = asked("wEb")
    reply = dns.message.from_wire(answer(query_of(message), addresses(1)))
    assert message.is_response(reply)
    assert reply.question[0].name.labels[0] == b"wEb"


def test_an_answer_holds_its_rows_in_order() -> None:
    message = asked("web")
    reply = dns.message.from_wire(answer(query_of(message), addresses(3)))
    (rows,) = reply.answer
    assert [row.address for row in rows] == ["10.128.0.0", "10.128.0.1", "10.128.0.2"]
    assert (rows.ttl, rows.rdtype) == (wire.TTL_S, dns.rdatatype.A)
    assert reply.flags & dns.flags.RA
    assert not reply.flags & dns.flags.TC


def test_whatever_is_asked_for_at_once_is_answered_with_addresses() -> None:
    reply = dns.message.from_wire(answer(query("web", "ANY"), addresses(1)))
    assert reply.answer[0].rdtype == dns.rdatatype.A


def test_an_address_of_six_fits_its_record() -> None:
    reply = dns.message.from_wire(answer(query("web", "AAAA"), [b"\xfd" + b"\0" * 14 + b"\x05"]))
    assert [row.address for row in reply.answer[0]] == ["fd00::5"]


def test_a_name_is_a_records_data() -> None:
    message = asked("5.0.128.10.in-addr.arpa", "PTR")
    reply = dns.message.from_wire(answer(query_of(message), [wire.encoded("web.1.abc")]))
    assert reply.answer[0][0].target.to_text() == "web.1.abc."


@pytest.mark.parametrize(("payload", "limit"), [(None, 512), (4096, 1232)])
def test_a_full_answer_just_fits_its_datagram(payload: int | None, limit: int) -> None:
    found = query("tasks.web", payload=payload)
    fit = wire.rows_that_fit(found, 4, wire.datagram_bytes(found))
    assert len(answer(found, addresses(fit))) <= limit < len(answer(found, addresses(fit + 1)))


def test_who_speaks_edns_hears_it() -> None:
    assert dns.message.from_wire(answer(query(payload=1400))).payload == wire.UDP_BYTES_MAX
    assert dns.message.from_wire(answer(query())).edns == -1


def test_a_cut_answer_says_so() -> None:
    assert wire.is_truncated(answer(query(), addresses(1), more=True))
    assert not wire.is_truncated(answer(query(), addresses(1)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw[:2] + b"\x28" + raw[3:], dns.rcode.NOTIMP),
        (lambda raw: raw[:4] + b"\0\2" + raw[6:], dns.rcode.FORMERR),
        (lambda raw: raw[:4] + b"\0\0" + raw[6:], dns.rcode.FORMERR),
        (lambda raw: raw[:-3], dns.rcode.FORMERR),
        (lambda raw: raw[:12] + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (lambda raw: raw[:12] + b"\x7f" + b"a" * 127 + b"\0\0\1\0\1", dns.rcode.FORMERR),
        (lambda raw: raw[:12] + b"\x3f" * 300 + b"\0\0\1\0\1", dns.rcode.FORMERR),
        (lambda raw: raw + b"\0" * wire.QUERY_BYTES_MAX, dns.rcode.FORMERR),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(change: object, code: int) -> None:
    raw = asked("web").to_wire()
    found = read(change(raw))  # type: ignore[operator]
    assert isinstance(found, Unreadable)
    assert found.reply[:2] == raw[:2]
    assert wire.code_of(found.reply) == code


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 11, dns.message.make_response(asked("w")).to_wire()],
    ids=["empty", "too short", "an answer"],
)
def test_what_is_no_question_gets_no_answer(raw: bytes) -> None:
    assert read(raw) == Unreadable()


@given(st.binary(max_size=300))
def test_prop_any_bytes_are_read_or_refused(raw: bytes) -> None:
    _survives(raw)


@given(st.binary(max_size=120), st.integers(0, 3), st.integers(0, 2))
def test_prop_any_question_is_read_or_refused(body: bytes, questions: int, extra: int) -> None:
    head = bytes((1, 2, 1, 0, 0, questions, 0, 0, 0, 0, 0, extra))
    _survives(head + body)


@given(st.integers(0, 40), st.binary(min_size=1, max_size=4))
def test_prop_a_damaged_question_is_read_or_refused(place: int, damage: bytes) -> None:
    raw = asked("tasks.web", payload=1232).to_wire()
    _survives(raw[:place] + damage + raw[place + len(damage) :])


def _survives(raw: bytes) -> None:
    found = read(raw)
    if isinstance(found, Query):
        reply = answer(found, addresses(1))
        assert len(reply) <= wire.UDP_BYTES
        assert wire.is_reply(found, reply)
        again = read(b"".join((found.raw[:2], b"\1\0\0\1\0\0\0\0\0\0", found.question)))
        assert isinstance(again, Query)
        assert again.name == found.name
    else:
        assert not found.reply or found.reply[:2] == raw[:2]


def test_only_the_answer_to_the_question_is_one() -> None:
    found = query("db.example")
    good = answer(found)
    assert wire.is_reply(found, good)
    assert wire.is_reply(found, good.replace(b"db", b"DB"))
    assert not wire.is_reply(found, found.raw), "the question itself"
    assert not wire.is_reply(found, bytes((good[0] ^ 1,)) + good[1:]), "another's number"
    assert not wire.is_reply(found, good.replace(b"db", b"dc")), "another's name"
    assert not wire.is_reply(found, answer(query("db.example", "AAAA"))), "another kind"
    assert not wire.is_reply(found, b"")


def test_an_error_may_leave_the_question_out() -> None:
    found = query("db.example")
    refused = answer(found, code=wire.REFUSED)
    bare = refused[:4] + b"\0\0" + refused[6:12]
    assert wire.is_reply(found, bare)
    assert not wire.is_reply(found, bare[:3] + b"\x80" + bare[4:])
