"""What this machine lacks, and what to do about it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kiln import sandbox
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian
from kiln.tools import Tools

# What a board's first build takes, in bytes: tools, sources, the kernel's build tree.
_NEEDED = 6_000_000_000
_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``problem`` keeps kiln from working, ``note`` does not."""

    level: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}" + (f"\n         {self.remedy}" if self.remedy else "")


def examine(settings: Settings, tools: Tools) -> Iterator[Finding]:
    """Look at everything that a build needs of the machine."""
    yield Finding(level="ok", text=f"Python {sys.version.split()[0]}")
    yield _name_spaces(tools)
    yield from (_space(path) for path in dict.fromkeys((settings.store, settings.downloads)))
    yield _archive(settings)
    git = shutil.which("git")
    yield (
        Finding(level="ok", text="git")
        if git
        else Finding(
            level="note",
            text="no git: sources come from mirrors and archives alone",
            remedy="install git to fetch from upstream repositories",
        )
    )
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding(level="ok", text="KVM")
    else:
        there = os.path.exists("/dev/kvm")
        yield Finding(
            level="note",
            text="no KVM: virtual machines run by emulation, about ten times slower",
            remedy="add yourself to the group kvm"
            if there
            else "enable virtualisation in the firmware, if there is any",
        )


def _name_spaces(tools: Tools) -> Finding:
    entry = tools["sandbox"].entry()
    try:
        launcher = sandbox.launcher(entry.root if entry else None)
    except KilnError:
        return Finding(
            level="note", text="no bubblewrap: the first build downloads one", remedy="then run `doit doctor` again"
        )
    found = sandbox.problem(launcher)
    if found:
        return Finding(level="problem", text=found[0], remedy=found[1])
    return Finding(
        level="ok", text="user name spaces, with bubblewrap " + ("of its own" if len(launcher) > 1 else launcher[0])
    )


def _space(path: os.PathLike[str]) -> Finding:
    folder = os.fspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding(level="problem", text=f"{folder} is not writable", remedy="set KILN_STORE and KILN_DOWNLOADS")
    if free < _NEEDED:
        return Finding(
            level="problem",
            text=f"{free / 1e9:.1f} GB free in {folder}; a first build takes {_NEEDED / 1e9:.0f}",
            remedy="free some, or set KILN_STORE and KILN_DOWNLOADS to folders on another disk",
        )
    return Finding(level="ok", text=f"{free / 1e9:.0f} GB free in {folder}")


def _archive(settings: Settings) -> Finding:
    import requests

    try:
        base = debian.archives(settings.archive)[0]
        requests.head(f"{base}/dists/bookworm/Release", timeout=_SECONDS, allow_redirects=True).raise_for_status()
    except KilnError as error:
        return Finding(level="problem", text=error.message, remedy=error.hint or "")
    except requests.RequestException as error:
        return Finding(
            level="problem",
            text=f"the Debian archive does not answer ({type(error).__name__})",
            remedy="check the network and proxy, or set KILN_DEBIAN to the base URL of an archive that answers",
        )
    return Finding(level="ok", text="the Debian archive answers")
