"""Path MTUs in memory, for unit tests and the simulator."""

from collections.abc import Iterable, Mapping


class FakePathMtu:
    """Returns the values of `sizes`; a host of size 0 answers no echo."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._measured: dict[str, int] = {}

    @property
    def measured(self) -> Mapping[str, int]:
        """See PathMtu."""
        return dict(self._measured)

    async def measure(self, addresses: Iterable[str], most: int) -> bool:
        """See PathMtu."""
        before = self._measured
        found = {address: min(self.sizes.get(address, most), most) for address in addresses}
        self._measured = {
            address: size or before[address]
            for address, size in found.items()
            if size or address in before
        }
        return self._measured != before
