"""Whether an object fits into the store, checked before it is accepted. PURE."""

from pyswarm_core.docker.units import human_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.kinds import Storable, encode


def require_storable(what: str, value: Storable, most: int) -> int:
    """The bytes of the encoded value. Raises InvalidArgument if they are more than `most`, or none
    can be made.
    """
    try:
        size = len(encode(value))
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"{what} cannot be stored: {error}") from None
    if size > most:
        raise InvalidArgument(
            f"{what} is too large: it takes {human_size(size)} in the store,"
            f" expected at most {human_size(most)}"
        )
    return size
