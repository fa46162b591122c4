"""The authors of objects. PURE values."""

from pyswarm_core.model import Model


class Author(Model, frozen=True):
    """Who changed an object last."""

    name: str
    role: str = ""
    """Empty for root."""

    @property
    def text(self) -> str:
        """`alice (operator)`."""
        return f"{self.name} ({self.role})" if self.role else self.name
