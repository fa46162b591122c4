"""Which requests for a signal or a stop reach an agent."""

import pytest

from controller.api.tasks import SignalRequest, require_signal
from pyswarm_core.errors import InvalidArgument


@pytest.mark.parametrize("signal", ["HUP", "sigterm", "RTMIN+3", "1", "64"])
def test_a_signal_has_a_name_or_a_number(signal: str) -> None:
    require_signal(SignalRequest("web.1", signal=signal))
    require_signal(SignalRequest("web.1", stop=True))


@pytest.mark.parametrize("signal", ["", "0", "65", "99", "-1", "NOW", "٣"])
def test_another_is_refused_with_the_numbers_that_exist(signal: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^--signal: .*, or a number of 1 to 64$"):
        require_signal(SignalRequest("web.1", signal=signal))


def test_a_stop_may_name_a_signal_and_a_timeout() -> None:
    require_signal(SignalRequest("web.1", signal="HUP", stop=True, timeout=1))


@pytest.mark.parametrize(("stop", "timeout"), [(True, -1), (True, 2**62), (False, 1)])
def test_a_timeout_is_that_of_a_stop(stop: bool, timeout: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^--timeout: .*expected 0s to"):
        require_signal(SignalRequest("web.1", signal="HUP", stop=stop, timeout=timeout))
