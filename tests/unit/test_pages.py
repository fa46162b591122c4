"""How executed pages are read and compared."""

import re

from tests.fixtures.pages import (
    Step,
    masked,
    other_blocks,
    rewritten,
    same,
    screen,
    shortened,
    steps,
)
from tests.fixtures.source import ROOT

PAGE = """# Title

```console
$ pyswarm service create --name web web:1
0123456789abcdefghijklmno
verify: Service converged
$ pyswarm service rm web
```

text

```
$ not executed
```

## Section

```console
$ echo $?
0
host2$ hostname
host2
```
"""


def test_commands_are_found_in_order_with_what_they_show() -> None:
    assert list(steps(PAGE)) == [
        Step(
            "pyswarm service create --name web web:1",
            ("0123456789abcdefghijklmno", "verify: Service converged"),
            4,
            section="Title",
        ),
        Step("pyswarm service rm web", (), 7, section="Title"),
        Step("echo $?", ("0",), 19, section="Section"),
        Step("hostname", ("host2",), 21, "host2", "Section"),
    ]
    assert list(other_blocks(PAGE)) == [("", "$ not executed\n")]


def test_blocks_that_no_test_executes_are_listed_with_a_reason() -> None:
    text = (ROOT / "docs/security.md").read_text()
    table = re.findall(r"^\| `(.+?) ?…` in .* \| .+ \|$", text.partition("\n## ")[0], re.MULTILINE)
    others = [block for language, block in other_blocks(text) if language != "nft"]
    listed = zip(sorted(table), sorted(others), strict=True)
    assert all(block.startswith(begin) for begin, block in listed)


def test_outputs_are_replaced_below_their_commands() -> None:
    page = rewritten(PAGE, {4: ["id"], 7: ["web"], 19: ["1", "2"]})
    assert [(s.command[:6], s.shown) for s in steps(page)] == [
        ("pyswar", ("id",)),
        ("pyswar", ("web",)),
        ("echo $", ("1", "2")),
        ("hostna", ("host2",)),
    ]


def test_secrets_are_left_out() -> None:
    digest, secret = 50 * "0", 25 * "z"
    assert shortened(f"join --token PYSWM-1-{digest}-{secret} h:1") == "join --token PYSWM-1-… h:1"
    assert shortened(f"    PYSWU-1-{digest}-{25 * 'a'}-{secret}") == "    PYSWU-1-…"
    assert shortened("SWMKEY-1-a+b/c=") == "SWMKEY-1-…"
    assert shortened("a PYSWM-1-… is short") == "a PYSWM-1-… is short"


def test_ids_digests_times_hosts_and_widths_are_masked() -> None:
    row = "9k2vd0a4b1c7   web.1   web:1   host2   Running   Running about a minute ago"
    assert masked(row) == "ID web.1 web:1 HOST Running Running SPAN"
    assert masked("Running less than a second ago") == masked("Running 12 seconds ago")
    assert masked("web:1@sha256:" + 64 * "a") == "web:1@DIGEST"
    assert masked('"2026-11-29T02:40:21.123456789Z"') == '"TIME"'
    assert masked("took 12ms, 0.5s") == "took SPAN, SPAN"
    assert masked("made 3m12s ago, running for 20.7 s") == "made SPAN ago, running for SPAN"
    assert masked("Backed up volume pgdata: 41.8MB") == "Backed up volume pgdata: SIZE"
    assert masked("pgdata 24MB db") == masked("pgdata 37.4MB db") == "pgdata SIZE db"
    assert masked("made 21.1 s ago") == masked("made 1h0m3s ago") == "made SPAN ago"
    assert masked(64 * "a") == "ID"
    assert masked("Root: " + 50 * "z") == "Root: DIGEST"
    assert masked("lbahsesvhdlr   shop.3") == "ID shop.3"


def test_what_matters_is_not_masked() -> None:
    for text in ("3/3", "unhealthy", "monitor 5s", "exit code 137", "web:2", "availability"):
        assert masked(text) == text


def test_a_page_may_leave_lines_out() -> None:
    assert same(("a", "…", "d", ""), ["a", "b", "c", "d"])
    assert same(("…",), [])
    assert not same(("a", "…", "d"), ["a", "b"])
    assert not same(("a",), ["a", "b"])


def test_a_screen_shows_what_was_drawn_last() -> None:
    drawn = "web\r\n\r\x1b[2K0 of 2\n\r\x1b[2K1/2: new\n\x1b[J\x1b[2A\r\x1b[2K2 of 2\n\x1b[J"
    assert screen(drawn) == ["web", "2 of 2"]
    assert screen("\x1b[1mbold\x1b[0m\r\n") == ["bold"]
