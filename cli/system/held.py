"""What the fleet has on its disks. SHELL."""

from cli.client import Client
from cli.container import calls
from cli.image.calls import images, registry_usage
from cli.system.usage import Held
from pyswarm_core.kinds import VOLUME


def held(client: Client, *, by_repository: bool = False, steps: bool = False) -> Held:
    """Everything, with the sizes that nodes measured; of the registry also `by_repository`, of
    images also those of builds' `steps`.
    """
    return Held(
        images(client, every=steps),
        calls.containers(client, every=True, size=True),
        sorted(client.objects(VOLUME), key=lambda volume: volume.spec.name),
        frozenset(one.spec.name for one in client.objects(VOLUME, ("dangling=true",))),
        client.nodes(),
        registry_usage(client, by_repository=by_repository),
    )
