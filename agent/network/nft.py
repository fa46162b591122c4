"""Runs nft: one process per change of a ruleset, never one per task. SHELL."""

import asyncio
import subprocess

from agent.network.base import NetworkFailed
from pyswarm_core.plaintext import split_lines

_TIMEOUT_S = 20.0


async def apply(ruleset: str) -> None:
    """Apply a ruleset in one transaction. Raises NetworkFailed with nft's message."""
    if reason := await _refusal(("-f", "-"), ruleset):
        raise NetworkFailed(reason)


async def refusal(ruleset: str) -> str:
    """nft's message if the kernel would refuse the ruleset; "" if it would accept it."""
    return await _refusal(("--check", "-f", "-"), ruleset)


async def _refusal(arguments: tuple[str, ...], ruleset: str) -> str:
    code, _, error = await _run(arguments, ruleset)
    if not code:
        return ""
    return f"nft: {split_lines(error.strip())[0] if error.strip() else code}"


async def listing(table: str, family: str = "inet") -> str:
    """The table as nft prints it, without counters; "" if it does not exist."""
    code, text, _ = await _run(("-s", "list", "table", family, table), "")
    return "" if code else text


async def _run(arguments: tuple[str, ...], text: str) -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", *arguments,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise NetworkFailed("nft is not installed on this host (package nftables)") from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, error_text = await process.communicate(text.encode())
    except TimeoutError as error:
        raise NetworkFailed(f"nft did not answer within {_TIMEOUT_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(), error_text.decode()
