"""What a container spec says about secrets and configs, in the shape of Docker's Engine API. PURE
values.
"""

from typing import Self

from msgspec.structs import replace

from pyswarm_core.model import Model

SECRETS_DIRECTORY = "/run/secrets"
DEFAULT_MODE = 0o444
NO_SIGNAL = "none"
"""Running containers get a new version without a signal."""


class FileTarget(Model, frozen=True):
    """A file in a container."""

    name: str
    """Of a secret relative to /run/secrets, of a config to /; or absolute."""
    uid: str = "0"
    gid: str = "0"
    mode: int = DEFAULT_MODE


class Reference(Model, frozen=True):
    """A version of a secret or config that a container uses. The API sets id and number."""

    file: FileTarget
    number: int = 0
    """The number of the version; 0: not known yet."""
    pinned: bool = False
    """An update of the secret or config leaves it as it is."""
    made_with: str = ""
    """The id of the version that its tasks were made with; empty: its own. Running containers get
    its own in place of that one.
    """
    reload: str = ""
    """The signal that tells their programs, or NO_SIGNAL; set with `made_with`."""

    @property
    def id(self) -> str:
        """The id of the version; empty: the API finds it by the name."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """The name of the secret or config."""
        raise NotImplementedError

    @property
    def variable(self) -> str:
        """The variable that has the data in place of a file; empty: it is a file."""
        return ""

    @property
    def path(self) -> str:
        """The path of the file in the container, if it is one."""
        raise NotImplementedError

    def at(self, object_id: str, number: int) -> Self:
        """The reference to that version."""
        raise NotImplementedError

    @property
    def is_swappable(self) -> bool:
        """Whether a running container can get another version: the directory of its file is
        mounted, and not the file alone.
        """
        return not self.variable and self.path.startswith(f"{SECRETS_DIRECTORY}/")

    def replaced_by(self, object_id: str, number: int) -> Self:
        """The reference to a version for which tasks are replaced."""
        return replace(self.at(object_id, number), made_with="", reload="")

    def reloaded(self, object_id: str, number: int, signal: str) -> Self:
        """The reference to a version that running containers get, with a signal or NO_SIGNAL."""
        made_with = self.made_with or self.id
        return replace(self.at(object_id, number), made_with=made_with, reload=signal)

    @property
    def of_template(self) -> Self:
        """What tasks are made of: equal if a running container can get the other version."""
        return replace(self.at(self.made_with or self.id, 0), made_with="", reload="")


class SecretReference(Reference, frozen=True, kw_only=True):
    """A version of a secret that a container uses."""

    secret_id: str = ""
    secret_name: str
    env: str = ""
    """The variable that has the secret; empty: it is a file."""

    @property
    def id(self) -> str:
        return self.secret_id

    @property
    def source(self) -> str:
        return self.secret_name

    @property
    def variable(self) -> str:
        return self.env

    @property
    def path(self) -> str:
        name = self.file.name
        return name if name.startswith("/") else f"{SECRETS_DIRECTORY}/{name}"

    def at(self, object_id: str, number: int) -> Self:
        return replace(self, secret_id=object_id, number=number)


class ConfigReference(Reference, frozen=True, kw_only=True):
    """A version of a config that a container uses."""

    config_id: str = ""
    config_name: str

    @property
    def id(self) -> str:
        return self.config_id

    @property
    def source(self) -> str:
        return self.config_name

    @property
    def path(self) -> str:
        name = self.file.name
        return name if name.startswith("/") else f"/{name}"

    def at(self, object_id: str, number: int) -> Self:
        return replace(self, config_id=object_id, number=number)
