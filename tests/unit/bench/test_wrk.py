"""wrk's report, which leaves out whatever did not happen."""

import pytest

from bench import wrk
from bench.wrk import Counts

CLEAN = """Running 1s test @ http://10.99.0.1:7272/index.html
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.11ms    1.50ms  12.73ms   89.64%
    Req/Sec     2.25k   345.05     2.58k    90.00%
  2246 requests in 1.00s, 460.61KB read
Requests/sec:   2237.06
Transfer/sec:    458.77KB
"""
FAILING = CLEAN.replace(
    "Requests/sec:",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
    "  Non-2xx or 3xx responses: 50000\nRequests/sec:",
)


def test_nothing_failed() -> None:
    assert wrk.parse(CLEAN) == Counts(answered=2246)
    assert wrk.parse(CLEAN).failed == 0


def test_each_way_of_failing_counts() -> None:
    counts = wrk.parse(FAILING)
    assert counts == Counts(2246, connect=1, read=20, write=300, timeout=4000, status=50000)
    assert counts.failed == 54321


def test_an_answer_that_is_an_error_was_asked_once() -> None:
    assert Counts(answered=10, status=4).total == 10
    assert Counts(answered=10, read=4).total == 14


def test_no_report_is_no_success() -> None:
    with pytest.raises(ValueError, match="Connection refused"):
        wrk.parse("unable to connect to 10.99.0.1:7272 Connection refused\n")


def test_clients_are_added_up() -> None:
    assert wrk.total([Counts(1, read=2), Counts(10, read=20, timeout=5)]) == Counts(
        11, read=22, timeout=5
    )


def test_told_in_words() -> None:
    assert wrk.summary(Counts(1200)) == "0 of 1,200"
    assert wrk.summary(Counts(7, connect=2, timeout=1)) == "3 of 10: 2 connect, 1 timeout"
