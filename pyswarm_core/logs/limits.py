"""Bounds of reading logs, with their reasons. PURE."""

LOG_LINE_BYTES = 64 * 1024
"""A longer line is sent in parts: a reader holds one per stream. Docker's parts have 16 KiB."""
LOG_READERS_PER_NODE = 400
"""Readers of logs that one agent serves at once; each has blocks of a file in memory,
0.7 MB if it is slow.
"""
LOG_FRAME_BYTES = 1024 * 1024
"""Text of log lines of several tasks in one message. An agent's frame has a block of a file."""
GREP_BYTES = 1024
GREP_PROGRAM = 4_000
"""Length of a pattern, and instructions that RE2 makes of it. Its slowest way through a text
executes each of them for each byte.
"""
GREP_MEMORY = 1024 * 1024
"""What RE2 may keep for one pattern; beyond that it forgets states, and takes the slowest way."""
