"""A leader looks for garbage among young objects only."""

import gc

from controller.garbage import NEVER, YOUNG_OBJECTS, freeze, unseen, young_only


def test_a_leader_looks_at_young_objects_only() -> None:
    before = gc.get_threshold()
    with young_only():
        youngest, _, whole = gc.get_threshold()
    assert (youngest, whole) == (YOUNG_OBJECTS, NEVER)
    assert gc.get_threshold() == before


def test_what_a_term_froze_is_looked_at_again_when_it_ends() -> None:
    gc.unfreeze()
    with young_only():
        freeze()
        assert gc.get_freeze_count()
    assert not gc.get_freeze_count()


def test_nothing_is_looked_for_until_what_was_loaded_is_frozen() -> None:
    enabled: list[bool] = []
    with unseen(lambda: enabled.append(gc.isenabled())):
        enabled.append(gc.isenabled())
    assert enabled == [False, False]
    assert gc.isenabled()
