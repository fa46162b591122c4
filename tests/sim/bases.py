"""A law about what an update returns to if it fails: the last spec whose update was completed."""

from collections.abc import Iterator

from msgspec.structs import replace

from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.states import UpdateState
from tests.sim.rules import Rule
from tests.sim.view import Change, View

_U = UpdateState
_ENDED = (_U.COMPLETED, _U.ROLLBACK_COMPLETED)


def _present(old: Service, new: Service) -> int:
    """The last version before the update's that changed no task. A user may have changed settings
    in the same turn.
    """
    status, template = new.update_status, old.spec.task_template
    kept = {
        one.version
        for one in new.previous_specs
        if one.version > old.spec_version and one.spec.task_template == template
    }
    return status.from_version if status and status.from_version in kept else old.spec_version


def _was_returned_to(old: Service, new: Service, version: int) -> bool:
    """Whether a user returned to that version in the same turn, before the update: one of the
    versions between has its spec. The service may be stopped where that one was not.
    """
    specs = {one.version: replace(one.spec, stopped=False) for one in new.previous_specs}
    between = [spec for number, spec in specs.items() if number > old.spec_version]
    return version <= old.spec_version and specs.get(version) in between


class UpdatesReturn:
    """An update that replaces one which is not completed returns to where that would have."""

    rule = Rule.BASE

    def __init__(self) -> None:
        self._bases: dict[ServiceId, int] = {}
        """To which spec version the unfinished update of a service returns."""

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """See `Law`."""
        for old, new in change.of(SERVICE):
            if new is None or (status := new.update_status) is None or status.state in _ENDED:
                for service in (old, new):
                    if service is not None:
                        self._bases.pop(service.id, None)
                continue
            if status.state is _U.ROLLBACK_STARTED and new.spec_version == status.to_version:
                self._bases[new.id] = status.from_version  # what its users or the update chose
                continue
            changed = old is None or status.to_version > old.spec_version  # not its settings alone
            chosen = _present(old, new) if old is not None and changed else status.from_version
            if old is not None and _was_returned_to(old, new, status.from_version):
                self._bases[new.id] = status.from_version
            expected = self._bases.setdefault(new.id, chosen) or chosen
            if status.from_version != expected:
                yield (
                    f"the update of {new.spec.name} returns to version {status.from_version}, and"
                    f" {expected} was the last that was completed: {status}"
                )
            self._bases[new.id] = expected
