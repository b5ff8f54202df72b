"""What this machine lacks, and what to do about it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kiln import process
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian
from kiln.tools import Tools
from kiln.vm.qemu import own_program

# What a board's first build takes, in bytes: tools, sources, the kernel's build tree.
_NEEDED = 4_000_000_000


@dataclass(frozen=True)
class Finding:
    """``problem`` keeps kiln from working, ``note`` does not."""

    level: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}" + (f"\n         {self.remedy}" if self.remedy else "")


def examine(settings: Settings, tools: Tools, arch: str) -> Iterator[Finding]:
    """Look at everything that a build needs of the machine, and a virtual machine of ``arch``."""
    yield Finding("ok", f"Python {sys.version.split()[0]}")
    yield _name_spaces(tools)
    yield from (_space(path) for path in dict.fromkeys((settings.store, settings.downloads)))
    yield _archive(settings)
    if shutil.which("git"):
        yield Finding("ok", "git")
    else:
        remedy = "install git to fetch from upstream repositories"
        yield Finding("note", "no git: sources come from mirrors and archives alone", remedy)
    yield _qemu(arch)
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding("ok", "KVM")
    else:
        firmware = "enable virtualisation in the firmware, if there is any"
        remedy = "add yourself to the group kvm" if os.path.exists("/dev/kvm") else firmware
        yield Finding("note", "no KVM: virtual machines run by emulation, about ten times slower", remedy)


def _qemu(arch: str) -> Finding:
    program = own_program(arch)
    if not program:
        return Finding("ok", f"no qemu-system-{arch}: kiln brings one")
    try:
        kinds = process.run([program, "-netdev", "help"]).decode().split()
    except KilnError as error:
        return Finding("problem", error.message, f"mend {program}, or remove it: kiln brings one")
    if "user" not in kinds:
        text = f"{program} was built without its user network (libslirp)"
        return Finding("problem", text, "install one that has it, or remove it: kiln brings one")
    return Finding("ok", program)


def _name_spaces(tools: Tools) -> Finding:
    entry = tools["sandbox"].entry()
    if not entry and not shutil.which("bwrap"):
        return Finding("note", "no bubblewrap: the first build downloads one", "then run `doit doctor` again")
    try:
        launcher = tools.launcher()
    except KilnError as error:
        return Finding("problem", error.message, error.hint or "")
    own = "of its own" if len(launcher) > 1 else launcher[0]
    return Finding("ok", f"user name spaces, with bubblewrap {own}")


def _space(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Finding("problem", f"{there} is not writable", "set KILN_STORE and KILN_DOWNLOADS")
    if free < _NEEDED:
        text = f"{free / 1e9:.1f} GB free in {there}; a first build takes {_NEEDED / 1e9:.0f}"
        return Finding("problem", text, "free some, or set KILN_STORE and KILN_DOWNLOADS to folders on another disk")
    return Finding("ok", f"{free / 1e9:.0f} GB free in {there}")


def _archive(settings: Settings) -> Finding:
    import requests

    try:
        base = debian.archives(settings.archive)[0]
        requests.head(f"{base}/dists/bookworm/Release", timeout=10, allow_redirects=True).raise_for_status()
    except KilnError as error:
        return Finding("problem", error.message, error.hint or "")
    except requests.RequestException as error:
        remedy = "check the network and proxy, or set KILN_DEBIAN to the base URL of an archive that answers"
        return Finding("problem", f"the Debian archive does not answer ({type(error).__name__})", remedy)
    return Finding("ok", "the Debian archive answers")
