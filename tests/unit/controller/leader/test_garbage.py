"""A leader looks for garbage among young objects only."""

import gc

from controller.leader.garbage import NEVER, YOUNG_OBJECTS, YoungObjects, freeze, unseen, young_only


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


def test_young_objects_that_take_the_place_of_older_ones_do_not_pile_up() -> None:
    young = YoungObjects()
    held = [(number,) for number in range(20 * YOUNG_OBJECTS)]
    gc.collect()
    with young_only():
        for number in range(len(held)):
            held[number] = (number,)
            young.made(1)
        assert gc.get_count()[0] < YOUNG_OBJECTS
        assert len(gc.get_objects(generation=0)) < 2 * YOUNG_OBJECTS
