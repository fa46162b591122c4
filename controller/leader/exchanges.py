"""The requests that agents answer through a tunnel, and their answers as values. PURE.

A request is a struct with the fields of its message. Log lines, images and stats stay the agent's
messages, which have the fields of the views that they are typed as: there may be thousands, and a
copy of each would slow down logs. The frames of byte streams are passed on as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Unavailable
from pyswarm_core.images.views import (
    Image,
    ImageDeleted,
    ImageDeletion,
    ImageDetails,
    ImageProgress,
    ImageReport,
)
from pyswarm_core.limits import CHECK_RESULTS
from pyswarm_core.logs.lines import LogLines, LogPlace
from pyswarm_core.streams.requests import (
    AttachRequest,
    BuildImageRequest,
    CopyInRequest,
    CopyOutRequest,
    ExecRequest,
    ExportRequest,
    PortForwardRequest,
    PushImageRequest,
    ReadVolumeRequest,
    SaveImageRequest,
    WriteVolumeRequest,
)
from pyswarm_core.traces import Facts, TraceProbe
from pyswarm_core.views import ContainerSize, FileChange, ProcessTable, TaskCheck, TaskStats

R = TypeVar("R", bound=msgspec.Struct)
A = TypeVar("A")


class Exchange(NamedTuple, Generic[R, A]):
    """A kind of request."""

    field: str
    """The field of OpenTunnel that holds the request."""
    answer: Callable[[Any], A]
    """What a frame of the agent holds; empty values if the frame is of another kind."""
    is_stream: bool = False
    """Whether it is a byte stream, of which frames of data are bytes."""


class LogsOptions(msgspec.Struct, frozen=True):
    """The lines of some tasks of one node that pass the filters, the last `tail` of each; all if
    negative.
    """

    task_ids: tuple[str, ...]
    follow: bool
    tail: int
    since: Instant
    until: Instant
    grep: str
    places: tuple[LogPlace, ...] = ()
    """Of each task, in place of `tail`: where reading is resumed."""


class ImagePull(msgspec.Struct, frozen=True):
    """Pull an image, or every tag of its repository."""

    reference: str
    username: str = ""
    password: str = ""
    platform: str = ""
    all_tags: bool = False


class ImageResolve(msgspec.Struct, frozen=True):
    """Look up the digest of an image at its registry, or the ports that it exposes."""

    reference: str
    username: str = ""
    password: str = ""


class ImageDelete(msgspec.Struct, frozen=True):
    """Remove names of images, and the images with their last ones; of `unneeded` ones those that no
    task there needs; with `loose` also layers that no image has, with `parents` also the images of
    its steps.
    """

    images: tuple[ImageDeletion, ...]
    unneeded: bool = False
    loose: bool = False
    parents: bool = False


class ImageRef(msgspec.Struct, frozen=True):
    """Send what the image of that id is made of."""

    ref: str


class ImageList(msgspec.Struct, frozen=True):
    """List all images."""


class TaskChecksRequest(msgspec.Struct, frozen=True):
    """Send the checks of a task."""

    task_id: str


class TaskSignal(msgspec.Struct, frozen=True):
    """Send a signal to a task's process, or stop it."""

    task_id: str
    signal: str = ""
    stop: bool = False
    timeout: int = 0
    """With `stop`: the grace period in nanoseconds; 0: the task's own."""


class StatsOptions(msgspec.Struct, frozen=True):
    """Sample the containers of these tasks and services, by default all, once per period (in
    nanoseconds); `samples` times, for ever if 0.
    """

    task_ids: tuple[str, ...]
    service_ids: tuple[str, ...]
    period: int
    samples: int


class TopRequest(msgspec.Struct, frozen=True):
    """Send the processes of a container, with these options of ps."""

    ref: str
    options: tuple[str, ...] = ()


class ChangesRequest(msgspec.Struct, frozen=True):
    """Send the files that differ from the image."""

    ref: str


class PauseRequest(msgspec.Struct, frozen=True):
    """Freeze the processes of a container, or have them go on."""

    ref: str
    paused: bool


class SizesRequest(msgspec.Struct, frozen=True):
    """Measure the files of the containers of these tasks."""

    task_ids: tuple[str, ...]


def _checks(frame: Any) -> tuple[TaskCheck, ...]:
    """At most as many checks as a task has: the number comes from an agent."""
    try:
        checks = [from_proto(TaskCheck, check) for check in frame.task_checks.checks[:2]]
    except ValueError as error:
        raise Unavailable(f"the agent sent a check that is not valid: {error}") from None
    return tuple(replace(check, results=check.results[-CHECK_RESULTS:]) for check in checks)


def _images(frame: Any) -> Sequence[Image]:
    images: Sequence[Image] = frame.image_report.images
    return images


def _report(frame: Any) -> ImageReport:
    report: ImageReport = frame.image_report
    return report


def _lines(frame: Any) -> LogLines:
    lines: LogLines = frame.log_lines
    if not len(lines.at) == len(lines.marks) == len(lines.texts):
        raise Unavailable("the agent sent lines without their times or marks")
    return lines


def _stats(frame: Any) -> Sequence[TaskStats]:
    stats: Sequence[TaskStats] = frame.stats.tasks
    return stats


def _frame(frame: Any) -> Any:
    return frame if isinstance(frame, bytes) else frame.stream


LOGS = Exchange[LogsOptions, LogLines]("read_logs", _lines)
IMAGE_PULL = Exchange[ImagePull, ImageProgress](
    "image_pull", lambda frame: from_proto(ImageProgress, frame.image_progress)
)
IMAGE_LIST = Exchange[ImageList, ImageReport]("image_list", _report)
IMAGE_DELETE = Exchange[ImageDelete, ImageDeleted](
    "image_delete", lambda frame: from_proto(ImageDeleted, frame.image_deleted)
)
IMAGE_DETAILS = Exchange[ImageRef, ImageDetails](
    "image_details", lambda frame: from_proto(ImageDetails, frame.image_details)
)
IMAGE_RESOLVE = Exchange[ImageResolve, Sequence[Image]]("image_resolve", _images)
IMAGE_PORTS = Exchange[ImageResolve, Sequence[str]](
    "image_ports", lambda frame: tuple(frame.exposed_ports.ports)
)
TRACE = Exchange[TraceProbe, Facts]("trace", lambda frame: from_proto(Facts, frame.trace_facts))
TASK_CHECKS = Exchange[TaskChecksRequest, tuple[TaskCheck, ...]]("task_checks", _checks)
STATS = Exchange[StatsOptions, Sequence[TaskStats]]("stats", _stats)
TOP = Exchange[TopRequest, ProcessTable]("top", lambda frame: from_proto(ProcessTable, frame.top))
CHANGES = Exchange[ChangesRequest, Sequence[FileChange]](
    "changes", lambda frame: frame.changes.changes
)
SIZES = Exchange[SizesRequest, Sequence[ContainerSize]]("sizes", lambda frame: frame.sizes.sizes)
PAUSE = Exchange[PauseRequest, None]("pause", lambda _: None)
EXEC = Exchange[ExecRequest, Any]("exec", _frame, is_stream=True)
ATTACH = Exchange[AttachRequest, Any]("attach", _frame, is_stream=True)
COPY_OUT = Exchange[CopyOutRequest, Any]("copy_out", _frame, is_stream=True)
COPY_IN = Exchange[CopyInRequest, Any]("copy_in", _frame, is_stream=True)
EXPORT = Exchange[ExportRequest, Any]("export", _frame, is_stream=True)
PORT_FORWARD = Exchange[PortForwardRequest, Any]("port_forward", _frame, is_stream=True)
READ_VOLUME = Exchange[ReadVolumeRequest, Any]("read_volume", _frame, is_stream=True)
WRITE_VOLUME = Exchange[WriteVolumeRequest, Any]("write_volume", _frame, is_stream=True)
SAVE_IMAGE = Exchange[SaveImageRequest, Any]("save_image", _frame, is_stream=True)
BUILD_IMAGE = Exchange[BuildImageRequest, Any]("build_image", _frame, is_stream=True)
PUSH_IMAGE = Exchange[PushImageRequest, Any]("push_image", _frame, is_stream=True)
SIGNAL_TASK = Exchange[TaskSignal, None]("signal_task", lambda _: None)
