"""Which images `up` gives the services: built now, pulled since, or as they are. PURE.

An image is written with its digest, so that all replicas have the same. Without one the controller
looks it up for new services, and keeps the one that a service has.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from cli.compose.members import Member
from cli.compose.names import IMAGE_LABEL, PULLED_LABEL
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import parse_duration
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ServiceSpec

ALWAYS, BUILD = "always", "build"
PERIODS = {"daily": 24 * HOUR, "weekly": 7 * 24 * HOUR}


class Choice(NamedTuple):
    """The image of each service, and what the controller looks up."""

    images: Mapping[str, str]
    """By full name; of the others the file's."""
    resolve: str
    """`always` or `changed`."""


def digest_in(image: str) -> str:
    """The digest of an image; empty if it has none."""
    return image.partition("@")[2]


def with_digest(image: str, digest: str) -> str:
    """The image as a service has it."""
    return parse_reference(image).pinned(digest).familiar


def pulled_note(before: str, now: str) -> str:
    """The value of the label that says which digest a pull has found in place of which."""
    return f"{now} {before}"


def pulled(spec: ServiceSpec) -> str:
    """The digest that a pull has found since the service got its image; empty: none."""
    now, _, before = spec.labels.get(PULLED_LABEL, "").partition(" ")
    return now if before == digest_in(spec.task_template.container_spec.image) else ""


def choice(
    wanted: Mapping[str, ServiceSpec],
    deployed: Mapping[str, Member],
    built: Mapping[str, str],
    fresh: Collection[str],
) -> Choice:
    """The images of the services, by full names. `built` has the digests of those with a build,
    `fresh` are those whose tag is looked up.
    """
    images: dict[str, str] = {}
    for name, spec in wanted.items():
        image = spec.task_template.container_spec.image
        member = deployed.get(name)
        if digest := built.get(name):
            images[name] = with_digest(image, digest)
        elif member is not None and name not in fresh and written(spec) == written_of(member):
            has = member.service.spec.task_template.container_spec.image
            found = pulled(member.service.spec)
            images[name] = with_digest(image, found) if found else has
    return Choice(images, "always" if any(one not in built for one in fresh) else "changed")


def written(spec: ServiceSpec) -> str:
    """The image as the file writes it."""
    image = spec.task_template.container_spec.image
    return spec.labels.get(IMAGE_LABEL, image.partition("@")[0])


def written_of(member: Member) -> str:
    """The same of a service on the fleet."""
    return written(member.service.spec)


def is_due(policy: str, member: Member | None, now: Instant) -> bool:
    """Whether the `pull_policy` of a service has its tag looked up now."""
    if policy == ALWAYS:
        return True
    period = PERIODS.get(policy, 0)
    if policy.startswith("every_"):
        period = _period(policy.removeprefix("every_"))
    if not period or member is None:
        return False
    service = member.service
    return now - (service.updated_at or service.created_at) > period


def _period(text: str) -> int:
    days = {"d": 24 * HOUR, "w": 7 * 24 * HOUR}
    try:
        if text[-1:] in days:
            return int(float(text[:-1]) * days[text[-1]])
        return parse_duration(text)
    except (InvalidArgument, ValueError):
        return 0  # the loader has refused it
