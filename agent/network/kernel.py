"""The dataplane of the kernel, composed of the real parts. SHELL."""

from pathlib import Path

from agent.network.base import Underlay
from agent.network.dataplane import Dataplane, Parts
from agent.network.fastpath.nft import NftFastPath
from agent.network.filter.nft import NftFilter
from agent.network.names import Names
from agent.network.overlay.kernel import KernelOverlay
from agent.network.pathmtu.measure import EchoPathMtu, answers
from agent.network.threads import KernelThreads
from agent.network.vips.programs import NetlinkVips


class KernelDataplane(Dataplane):
    """The dataplane of the network namespace that the agent runs in. Close it when done; the
    kernel's state stays.
    """

    def __init__(
        self, fleet: str, underlay: Underlay, netns_directory: Path, *, fast_path: bool = True
    ) -> None:
        """`fleet` is one to five letters and digits, unique on the machine. `netns_directory`
        belongs to this object alone. Without `fast_path`, that of an earlier agent is removed.
        """
        self.names = Names(fleet)
        self.threads = KernelThreads()
        self.overlay = KernelOverlay(
            self.threads, self.names, underlay, netns_directory, fast_path=fast_path
        )
        self.filter = NftFilter(self.threads, self.names, underlay)
        self.vips = NetlinkVips(self.threads)
        self.fast_path = NftFastPath(self.names, self.threads.nft_generation, on=fast_path)

        async def carries(address: str, size: int) -> bool:
            return await self.threads.run(lambda: answers(underlay.address, address, size))

        self.path_mtu = EchoPathMtu(carries)
        super().__init__(Parts(self.overlay, self.filter, self.vips, self.fast_path, self.path_mtu))

    def close(self) -> None:
        """Stop the threads and close the sockets. The kernel's state stays."""
        self.threads.close()
        self.vips.close()
        self.overlay.close()
