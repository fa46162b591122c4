"""Keys and signatures by the `openssl` program. SHELL.

An agent makes a key when it joins and for each renewal, which is months apart; the library
`cryptography` would cost it 13 MiB of memory all the time.
"""

import asyncio
import os
import re
from asyncio.subprocess import DEVNULL, PIPE

import msgspec

from pyswarm_core.errors import Unavailable

TIMEOUT_S = 10.0
"""openssl makes a key in 10 ms; on a busy host it waits for the processor."""

_NEW_KEY = (
    *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    *("-nodes", "-batch", "-subj", "/CN=pyswarm", "-sha256", "-keyout", "-", "-out", "-"),
)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n[^-]+-----END \1-----\n")


class Request(msgspec.Struct, frozen=True):
    """A fresh private key, and the request for its certificate. PEM."""

    key: bytes
    csr: bytes

    def __repr__(self) -> str:
        return "Request(...)"


async def new_request() -> Request:
    """Make a key. Raises Unavailable if openssl fails or is not installed."""
    out = await _openssl(_NEW_KEY)
    blocks = {found[1]: found[0] for found in _BLOCK.finditer(out)}
    key, csr = blocks.get(b"PRIVATE KEY"), blocks.get(b"CERTIFICATE REQUEST")
    if key is None or csr is None:
        raise Unavailable("openssl made no key and no signing request")
    return Request(key, csr)


async def sign(key: bytes, text: bytes) -> bytes:
    """The signature of `text` by this private key: ECDSA with SHA-256. Raises Unavailable."""
    reading, writing = os.pipe()
    try:
        os.write(writing, key)  # a pipe holds 64 KiB
        os.close(writing)
        command = ("openssl", "dgst", "-sha256", "-sign", f"/dev/fd/{reading}")
        return await _openssl(command, text, pass_fds=(reading,))
    finally:
        os.close(reading)


async def _openssl(
    command: tuple[str, ...], text: bytes = b"", pass_fds: tuple[int, ...] = ()
) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE if text else DEVNULL, stdout=PIPE, stderr=PIPE, pass_fds=pass_fds
        )
    except FileNotFoundError:
        raise Unavailable(
            "openssl is not installed, which makes this host's key: install it (apt install"
            " openssl, dnf install openssl)"
        ) from None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(text or None)
    except TimeoutError:
        raise Unavailable(f"openssl did not end within {TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = err.decode(errors="replace").strip().rpartition("\n")[2]
        raise Unavailable(f"openssl failed: {last or f'exit code {process.returncode}'}")
    return out
