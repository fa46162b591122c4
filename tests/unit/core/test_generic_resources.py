"""Texts of resources that users define."""

import pytest

from pyswarm_core.docker.generic_resources import counted, names, offered, reserved, variable
from pyswarm_core.errors import InvalidArgument


def test_a_task_reserves_numbers() -> None:
    found = reserved("--generic-resource", ("gpu=2", "ssd=1,fpga=3", "gpu=4"))
    assert counted(found) == {"gpu": 4, "ssd": 1, "fpga": 3}


def test_a_node_offers_numbers_and_sets() -> None:
    found = offered("-", ("ssd=4", "gpu=UUID1,UUID2", "gpu=UUID3"))
    assert counted(found) == {"ssd": 4, "gpu": 3}
    assert names(found, "gpu") == ("UUID1", "UUID2", "UUID3")
    assert names(found, "ssd") == ()


@pytest.mark.parametrize("text", ["gpu", "gpu=", "gpu=x", "gpu=0", "=2", "gpu=-1", "g\n=1"])
def test_other_texts_of_tasks_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected KIND=NUMBER such as gpu=2"):
        reserved("--generic-resource", (text,))


@pytest.mark.parametrize(
    "texts", [("gpu",), ("gpu=",), ("gpu=0",), ("gpu=a b",), ("gpu=1", "gpu=x"), ("gpu=x", "gpu=1")]
)
def test_other_texts_of_nodes_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="or KIND=NAME"):
        offered("--node-generic-resource", texts)


def test_the_variable_is_dockers() -> None:
    assert variable("gpu") == "DOCKER_RESOURCE_GPU"
