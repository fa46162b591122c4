"""Templates in the data of secrets and configs. PURE."""

from pyswarm_core.errors import invalid
from pyswarm_core.payloads.limits import CONFIG_BYTES_MAX
from pyswarm_core.templates.context import FUNCTIONS, require

TEXT_MAX = CONFIG_BYTES_MAX
"""Characters of an expanded secret or config."""
PAYLOAD_FUNCTIONS = frozenset({*FUNCTIONS, "secret", "config", "env"})


def text_of(field: str, data: bytes) -> str:
    """The data as a template's text. Raises InvalidArgument."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            field, len(data), f"expected UTF-8, as a template has: byte {error.start}", "size"
        ) from None


def require_template(name: str, data: bytes) -> None:
    """Raise InvalidArgument, without any of the data, if the template is not valid."""
    require(name, text_of(name, data), None, PAYLOAD_FUNCTIONS, shown=name)
