"""The benchmarks of the control plane run: with small sizes, in processes of their own."""

import pytest

from bench.__main__ import benchmarks, run

CONTROL = {name: module for name, module in benchmarks("bench").items() if "control_" in name}


def test_there_are_such_benchmarks() -> None:
    assert "control_slices" in CONTROL


@pytest.mark.timeout(900)  # one of them starts six programs, twice
@pytest.mark.parametrize("name", CONTROL)
def test_it_measures_something(name: str) -> None:
    figures = list(run(CONTROL[name], quick=True))
    assert figures
    assert all(figure.name and figure.unit for figure in figures)
