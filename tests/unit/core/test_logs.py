"""Log lines that a client can cause at any rate are written at a bounded rate."""

import pytest

from pyswarm_core.aio.logs import EventLog


def test_an_event_is_written_once_per_period_and_says_what_was_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("pyswarm_core.aio.logs.time.monotonic", lambda: now)
    log = EventLog("test")
    for _ in range(5):
        log.warning("call.invalid", every_s=10.0, method="Why")
    log.warning("other.event")
    now = 110.0
    log.warning("call.invalid", every_s=10.0, method="Join")
    assert [record.getMessage() for record in caplog.records] == [
        "call.invalid method=Why",
        "other.event",
        "call.invalid method=Join left_out=4",
    ]


def test_no_fact_acts_upon_a_terminal_or_makes_a_line_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    EventLog("test").error("store.failed", a="x\x1b[2Jy", b="one\rtwo", c="one\u2028two", d="ü")
    (record,) = caplog.records
    assert record.getMessage() == (r"store.failed a='x\x1b[2Jy' b='one\rtwo' c='one\u2028two' d=ü")
