"""The sandbox: bubblewrap round a tools tree, with nothing of the host but what is mounted.

The tools tree is ``/``, read-only; all name spaces are new, so there is no network; inside, one is uid 0 of a world
that holds nothing to harm.
"""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from kiln import process
from kiln.errors import KilnError

# Mount points that every tools tree brings: a read-only root cannot grow them later.
MOUNT_POINTS = (
    "build", "ccache", "clock", "config", "dest", "dev", "inputs", "proc", "src", "sys", "sysroot", "tmp", "tools",
    "work",
)  # fmt: skip

# The first folder leads compilers through their cache, or past it; a build cannot tell.
PATH = "/usr/lib/ccache:/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder or file of the host that is seen at ``target`` inside."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A tools tree, what is mounted into it, and the environment seen inside."""

    root: Path
    launcher: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"

    def with_mounts(self, mounts: Sequence[Mount]) -> "Sandbox":
        return replace(self, mounts=(*self.mounts, *mounts))

    def with_env(self, env: Mapping[str, str], *, cwd: str | None = None) -> "Sandbox":
        return replace(self, env=dict(self.env) | dict(env), cwd=cwd or self.cwd)

    def argv(self, command: Sequence[str], *, interactive: bool = False) -> list[str]:
        words = [*self.launcher, "--unshare-all", "--die-with-parent"]
        if not interactive:
            words.append("--new-session")
        # No capabilities: else a build started by root could do what a user's cannot.
        words += ["--uid", "0", "--gid", "0", "--cap-drop", "ALL", "--hostname", "kiln", "--clearenv"]
        words += ["--ro-bind", os.fspath(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for mount in self.mounts:
            words += ["--bind" if mount.writable else "--ro-bind", os.fspath(mount.source), mount.target]
        environment = {"PATH": PATH, "LC_ALL": "C", "TZ": "UTC", "HOME": "/tmp"} | dict(self.env)
        for name, value in sorted(environment.items()):
            words += ["--setenv", name, value]
        return [*words, "--chdir", self.cwd, "--", *command]

    def run(self, command: Sequence[str], *, interactive: bool = False, **options: Any) -> bytes:
        """Run ``command`` inside; ``options`` are those of ``process.run``."""
        argv = self.argv(command, interactive=interactive)
        # bubblewrap itself needs none of our environment, and what it does not get cannot leak.
        return process.run(argv, env={}, interactive=interactive, **options)


def launcher(tree: Path | None) -> tuple[str, ...]:
    """How bubblewrap is started: the machine's own, or the one in ``tree`` through that tree's loader."""
    own = shutil.which("bwrap")
    if own:
        return (own,)
    if tree is None:
        raise KilnError("this machine has no bubblewrap, and the tools tree that brings one is not here yet")
    libraries = f"{tree}/usr/lib/x86_64-linux-gnu"
    return (f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries, f"{tree}/usr/bin/bwrap")


@cache
def require(launcher: tuple[str, ...]) -> None:
    """Raise KilnError, with the remedy, where bubblewrap cannot make name spaces here."""
    if platform.machine() != "x86_64":
        message = f"this machine is {platform.machine()}; the tools tree is for x86_64"
        raise KilnError(message, hint="build on an x86_64 machine")
    try:
        process.run([*launcher, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/true"], env={})
    except process.CommandFailed as error:
        for name, bad, good in (
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("user.max_user_namespaces", "0", "15000"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ):
            setting = Path("/proc/sys", name.replace(".", "/"))
            if os.access(setting, os.R_OK) and setting.read_text().strip() == bad:
                message = f"user name spaces are forbidden here: {name} = {bad}"
                raise KilnError(message, hint=f"as root: sysctl -w {name}={good}") from error
        raise KilnError(
            f"the sandbox cannot start ({error.message})",
            hint="in a container, allow user name spaces: --security-opt seccomp=unconfined"
            " --security-opt apparmor=unconfined --security-opt systempaths=unconfined",
        ) from error
