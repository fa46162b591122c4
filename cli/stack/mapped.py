"""Compose files as a stack, for `stack deploy`. SHELL: reads files."""

from typing import TYPE_CHECKING

from cli.compose import flags

if TYPE_CHECKING:
    from compose.mapping.mapped import Mapped
    from compose.projects import Request


def stack_of_files(wanted: "Request", *, is_strict: bool) -> "Mapped":
    """The stack that the files define. Raises Refused with every fault."""
    from compose.files import Disk
    from compose.mapping.mapped import Options
    from compose.mapping.stack import stack_of
    from compose.report import Refused

    disk = Disk()
    loaded = flags.load(wanted, is_strict=is_strict, told=False, disk=disk)
    try:
        mapped = stack_of(loaded, Options(is_stack=True, builds=False), disk)
        disk.expect_unchanged()
    except Refused as error:
        flags.print_remarks("Error", error.faults[:-1])
        raise Refused(error.faults[-1:]) from None
    if is_strict and mapped.notices:
        flags.print_remarks("Error", mapped.notices[:-1])
        raise Refused(mapped.notices[-1:])
    return mapped
