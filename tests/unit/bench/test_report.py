"""Figures beside a peer's: more than one is better, whichever way the measurement points."""

import pytest

from bench.report import Figure, ahead, faster, table


@pytest.mark.parametrize(
    ("figure", "gain", "verdict"),
    [
        (faster("remove", 2.0, 20.0, "s", 8), 10.0, "met"),
        (faster("remove", 4.0, 20.0, "s", 8), 5.0, "short"),
        (ahead("create", 40.0, 4.0, "/s", 8), 10.0, "met"),
        (ahead("create", 4.0, 40.0, "/s", 8), 0.1, "short"),
    ],
)
def test_gain_over_the_peer(figure: Figure, gain: float, verdict: str) -> None:
    assert figure.value == pytest.approx(gain)
    assert figure.verdict == verdict


def test_the_table_shows_what_both_did() -> None:
    shown = table([faster("remove 100", 0.7, 14.6, "s", 8)])
    assert "20.9 x" in shown
    assert ">= 8 x (Swarm)" in shown
    assert "0.7 s; Docker Swarm 14.6 s" in shown
