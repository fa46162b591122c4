"""Whether the kernel can execute a program, from its first bytes. PURE.

The kernel (binfmt_elf, binfmt_script) reads 256 bytes of a script's first line. Of an ELF file this
module needs the header and the program headers, which linkers put into the first page.
"""

import struct

import msgspec

HEAD_BYTES = 4096
_SCRIPT_LINE_MAX = 255
_PT_INTERP = 3
# e_machine: Debian's name, and the values of `uname -m` that run it.
_MACHINES = {
    3: ("i386", ("i386", "i686", "x86_64")),
    8: ("mips", ("mips", "mips64")),
    20: ("ppc", ("ppc", "ppc64")),
    21: ("ppc64le", ("ppc64le", "ppc64")),
    22: ("s390x", ("s390x",)),
    40: ("arm", ("armv7l", "armv6l", "aarch64")),
    62: ("amd64", ("x86_64",)),
    183: ("arm64", ("aarch64",)),
    43: ("sparc64", ("sparc64",)),
    243: ("riscv64", ("riscv64",)),
    258: ("loong64", ("loongarch64",)),
}


class Program(msgspec.Struct, frozen=True):
    """`fault` is the reason why a kernel of this architecture cannot execute it, or empty;
    `interpreter` is the path that a script's first line or a dynamic ELF file names, `line` that
    first line.
    """

    fault: str = ""
    interpreter: str = ""
    line: str = ""


def read_program(head: bytes, machine: str) -> Program:
    """Inspect the first HEAD_BYTES of a program, for a host with that `uname -m`."""
    if not head:
        return Program("the file is empty")
    if head.startswith(b"#!"):
        return _script(head)
    if head.startswith(b"\x7fELF"):
        return _elf(head, machine)
    if head.startswith(b"\xef\xbb\xbf#!"):
        return Program("a UTF-8 byte order mark stands before its #!: save it without one")
    return Program("it is neither an ELF program nor a script that begins with #!")


def _script(head: bytes) -> Program:
    line, end, _ = head.partition(b"\n")
    if not end and len(line) > _SCRIPT_LINE_MAX:
        return Program(f"its first line is longer than {_SCRIPT_LINE_MAX} bytes")
    words = line[2:].strip(b" \t").split(None, 1) if line[2:].strip(b" \t\r") else []
    if not words:
        return Program("its first line names no interpreter after #!")
    # The kernel splits at blanks alone: a carriage return is part of the name.
    name = line[2:].strip(b" \t").replace(b"\t", b" ").split(b" ", 1)[0]
    return Program(interpreter=_text(name), line=_text(line))


def _elf(head: bytes, machine: str) -> Program:
    try:
        wide, little = head[4] == 2, head[5] == 1
        order = "<" if little else ">"
        (number,) = struct.unpack_from(f"{order}H", head, 18)
        name, machines = _MACHINES.get(number, (f"machine type {number}", ()))
        if machine not in machines:
            return Program(f"it is a program for {name}, and this host is {machine}")
        return Program(interpreter=_elf_interpreter(head, order, wide))
    except (struct.error, IndexError):
        return Program("its ELF header is cut off")


def _elf_interpreter(head: bytes, order: str, wide: bool) -> str:
    """The path of its dynamic loader; empty for a static program."""
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    for index in range(count):
        at = table + index * size
        (kind,) = struct.unpack_from(f"{order}I", head, at)
        if kind == _PT_INTERP:
            word, first, second = ("Q", 8, 32) if wide else ("I", 4, 16)
            (offset,) = struct.unpack_from(f"{order}{word}", head, at + first)
            (length,) = struct.unpack_from(f"{order}{word}", head, at + second)
            return _text(head[offset : offset + length].rstrip(b"\0"))
    return ""


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
