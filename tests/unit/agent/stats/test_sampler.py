"""Who asks for samples, and what is read for them."""

from threading import Barrier, Thread

from agent.runtime.base import Stats
from agent.stats.fake import FakeMeter
from agent.stats.sampler import Sampler
from agent.tasks.record import Record
from pyswarm_core.clock import HOUR
from pyswarm_core.states import TaskState
from tests.fixtures.records import record


def sampled(*records: Record) -> tuple[FakeMeter, Sampler]:
    meter = FakeMeter()
    meter.used = {one.task_id: Stats(pids=1) for one in records}
    return meter, Sampler(meter, lambda: {one.task_id: one for one in records}, 1 << 30)


def ids(sampler: Sampler, max_age_ns: int = 0, **options: object) -> list[str]:
    found = sampler.sample(max_age_ns, **options)  # type: ignore[arg-type]
    return [one.record.task_id for one in found]


def test_tasks_without_a_process_are_left_out() -> None:
    ended = record("t2", state=TaskState.COMPLETE)
    waiting = record("t3", state=TaskState.READY, started_at=0)
    meter, sampler = sampled(record("t1"), ended, waiting)
    assert ids(sampler) == ["t1"]
    assert meter.reads == [("t1",)]


def test_only_wanted_tasks_are_read() -> None:
    meter, sampler = sampled(record("t1"), record("t2", "db"))
    assert ids(sampler, wanted=lambda one: one.service_name == "db") == ["t2"]
    assert meter.reads == [("t2",)]


def test_a_young_sample_answers_the_next_who_asks() -> None:
    meter, sampler = sampled(record("t1"), record("t2"))
    ids(sampler, wanted=lambda one: one.task_id == "t1")
    assert ids(sampler, HOUR) == ["t1", "t2"]
    assert ids(sampler, HOUR) == ["t1", "t2"]
    assert meter.reads == [("t1",), ("t2",)]
    ids(sampler, 0)
    assert meter.reads[2:] == [("t1", "t2")]


def test_details_are_read_when_somebody_asks_for_them() -> None:
    meter, sampler = sampled(record("t1"))
    ids(sampler)
    (found,) = sampler.sample(HOUR, details=True)
    assert found.sample.details is not None
    (again,) = sampler.sample(HOUR)
    assert again.sample is found.sample
    assert len(meter.reads) == 2


def test_a_container_that_is_gone_has_no_sample() -> None:
    meter, sampler = sampled(record("t1"), record("t2"))
    ids(sampler)
    del meter.used["t1"]
    assert ids(sampler) == ["t2"]


def test_those_who_ask_at_once_share_one_reading() -> None:
    meter, sampler = sampled(record("t1"))
    begin, found = Barrier(8), list[list[str]]()

    def ask() -> None:
        begin.wait()
        found.append(ids(sampler, HOUR))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["t1"]] * 8
    assert meter.reads == [("t1",)]
