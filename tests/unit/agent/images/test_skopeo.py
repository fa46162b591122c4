"""The progress of a pull, from the bars that skopeo draws."""

from agent.images import skopeo
from agent.images.bars import Bars
from agent.images.base import LayerProgress, LayerState, PullPhase, PullProgress

DRAWN = (
    b"Getting image source signatures\r",
    b"Copying blob e4512539da04 [--------------------------------------] 0.0b / 28.6MiB\r",
    b"Copying blob 63ed4567365f skipped: already exists  \r",
    b"\x1b[2A\x1b[JCopying blob e4512539da04 [=====>------------] 7.2MiB / 28.6MiB | 5.1 MiB/s\r",
    b"Copying blob 63ed4567365f skipped: already exists  \r",
    b"\x1b[2A\x1b[JCopying blob e4512539da04 done  \r",
    b"Copying blob 63ed4567365f skipped: already exists  \r",
    b"Copying config da56f438cd [======================================] 323.0b / 323.0b\r",
    b"\x1b[1A\x1b[JCopying config da56f438cd done  \r",
    b"Writing manifest to image destination\r",
)
MIB = 1024 * 1024


def test_progress_is_that_of_each_layer() -> None:
    told: list[PullProgress] = []
    meter = skopeo._Meter("web:1", told.append)
    for line in DRAWN:
        meter.line(line)
    assert told[0] == PullProgress(reference="web:1", phase=PullPhase.CONNECTING)
    half = next(one for one in told if one.bytes)
    large = LayerProgress(
        id="e4512539da04",
        state=LayerState.DOWNLOADING,
        done_bytes=int(7.2 * MIB),
        total_bytes=int(28.6 * MIB),
    )
    assert half.layers[0] == large
    assert half.layers[1].state is LayerState.EXISTS
    assert (half.blobs, half.phase, half.total_bytes) == (2, PullPhase.COPYING, int(28.6 * MIB))
    last = told[-1]
    assert last.phase is PullPhase.STORING
    assert [layer.state for layer in last.layers] == [LayerState.DONE, LayerState.EXISTS]
    assert last.bytes == last.total_bytes == int(28.6 * MIB)
    assert [one.bytes for one in told] == sorted(one.bytes for one in told)


def test_lines_of_a_pipe_name_the_layers() -> None:
    bars = Bars()
    for line in ("Copying blob sha256:" + "ab" * 32, "Copying blob", "nothing", "\x1b[J"):
        bars.line(line)
    assert bars.layers == (LayerProgress(id="ab" * 6),)


def test_a_platform_becomes_flags() -> None:
    assert skopeo.platform_flags("") == ()
    assert skopeo.platform_flags("linux/arm/v7") == (
        *("--override-os", "linux", "--override-arch", "arm", "--override-variant", "v7"),
    )
    assert skopeo.platform_flags("linux/arm64")[2:] == ("--override-arch", "arm64")
