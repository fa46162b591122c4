"""The settings of images, with their defaults. PURE."""

from pathlib import Path

import msgspec


class ImageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`root` holds images and layers, `run_root` state that a reboot may lose, `work` unfinished
    pulls.

    `insecure_registries` are HOST[:PORT] or CIDR, in addition to loopback; `mirrors` are URLs that
    serve docker.io; `auth_file` holds the host's logins, as `docker login` or `skopeo login` writes
    them, for pulls without credentials. A pull fails after `stall_s` without progress, and after
    `pull_limit_s` in all. `name` is the host's name, for errors.
    """

    root: Path
    run_root: Path
    work: Path
    name: str = "this host"
    insecure_registries: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    auth_file: Path | None = None
    parallel_pulls: int = 6
    parallel_per_registry: int = 3
    stall_s: float = 30.0
    pull_limit_s: float = 3600.0

    @property
    def storage_conf(self) -> Path:
        """The storage.conf that every tool of this agent uses."""
        return self.root.parent / f"{self.root.name}.conf"

    @property
    def builds(self) -> Path:
        """What builds keep besides images: the content of their cache mounts."""
        return self.root.parent / f"{self.root.name}-builds"

    @property
    def storage_conf_text(self) -> str:
        """Its content. Without skip_mount_home every use would leave a mount at `overlay`."""
        return (
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.root}"\n'
            f'runroot = "{self.run_root}"\n\n[storage.options.overlay]\nskip_mount_home = "true"\n'
        )
