"""What would keep an initramfs from doing its work, and what to do about it."""

import posixpath
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from kiln.initramfs.links import Links
from kiln.initramfs.view import View

# What /init mounts over, or fills: links may lead there to what is not yet.
_FILLED_LATER = ("dev/", "proc/", "run/", "sys/", "sysroot/", "tmp/")

# What dracut and depmod write themselves. dracut writes more into cmdline.d, all of it about the machine that builds.
_GENERATED = re.compile(
    r"etc/(?:passwd|group|shadow|locale\.conf|multipath\.conf|vconsole\.conf|conf\.d/systemd\.conf|modprobe\.d/nfs\.conf)"
    r"|etc/cmdline\.d/20-(?:base|force_drivers|watchdog)\.conf"
    r"|usr/lib/(?:initrd-release|dracut/(?:build-parameter\.txt|modules\.txt|dracut-[\w.]+))"
    r"|usr/lib/udev/rules\.d/64-md-raid-assembly\.rules"
    r"|usr/lib/modules/[^/]+/modules\.(?:alias|dep|symbols|softdep|weakdep|devname|builtin)(?:\.alias)?(?:\.bin)?"
)
_BRING = 'bring it by a package (libs of the recipe that needs it), or by install_items+=" FILE "'

_BUILTIN = r"(?:usr/)?lib/modules/[^/]+/modules\.builtin"
_DRIVER = re.compile(r".*/([^/]+)\.ko(?:\.\w+)?")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``where`` is a path, or what is missing. ``wrong`` tells a mistake from what is good to know."""

    where: str
    text: str
    instead: str
    wrong: bool = True


def driver(path: str) -> str:
    """The name in /proc/modules of the kernel module that a file is; empty where it is none."""
    found = _DRIVER.fullmatch(f"/{path}")
    return found[1].replace("-", "_") if found else ""


def verify(
    links: Links, *, must: Sequence[str] = (), builtin: Collection[str] = (), known: Collection[str] | None = None
) -> Iterator[Finding]:
    """All that is to say of an initramfs.

    ``must`` are the kernel modules and, with a slash, the paths that have to be there; a module may be ``builtin`` as
    well. ``known`` are the digests of all files that it may have been made of.
    """
    view = links.view
    yield from _init(links)
    yield from _programs(links)
    yield from _missing(view, must, builtin)
    yield from _files(view, known)
    for line in view.lost:
        yield Finding(where=line, text="kernels leave this entry out", instead="bring its folder in front of it")


def _init(links: Links) -> Iterator[Finding]:
    place = links.view.find("init")
    if not place:
        instead = "the kernel starts nothing else: bring /init (dracut's module base has it)"
        yield Finding(where="/init", text="is not there", instead=instead)
    elif not links.can_run(place):
        yield Finding(where="/init", text="cannot be executed", instead=f"chmod 755 {place}")
    elif place not in links.programs:
        text = "is neither a script with #! nor a program (ELF)"
        yield Finding(where="/init", text=text, instead="#!/bin/sh as its first line")


def _programs(links: Links) -> Iterator[Finding]:
    for path, one in links.programs.items():
        if one.damaged:
            yield Finding(where=f"/{path}", text="is a damaged ELF file", instead="copy or make it again")
        runs = links.can_run(path)
        if one.interpreter and runs and not links.can_run(one.interpreter):
            what = "is not there, or cannot be executed"
            text = f"cannot start: {one.interpreter}, which loads it, {what}"
            yield Finding(where=f"/{path}", text=text, instead=_BRING)
        for name, place in links.libraries(path):
            if not place:
                text = f"needs the library {name}, which is not there"
                yield Finding(where=f"/{path}", text=text, instead=_BRING)


def _missing(view: View, must: Sequence[str], builtin: Collection[str]) -> Iterator[Finding]:
    lists = [file.data.decode(errors="replace").split() for _, file in view.matching(_BUILTIN)]
    drivers = {driver(line) for lines in lists for line in lines} | set(builtin)
    drivers |= {name for path in view.files if (name := driver(path))}
    for word in must:
        if "/" in word:
            if not view.find(word):
                instead = f'install_items+=" {word} ", or the dracut module that brings it'
                yield Finding(where=word, text="must be in it (initramfs_must), and is not", instead=instead)
        elif word.replace("-", "_") in drivers:
            continue
        elif not lists and not builtin:
            text = "must be in it (initramfs_must), and nothing here says what the kernel has built in"
            yield Finding(where=word, text=text, instead="look into the kernel's configuration", wrong=False)
        else:
            text = "must be in it or built into the kernel (initramfs_must), and is neither"
            yield Finding(where=word, text=text, instead=f'add_drivers+=" {word} ", if the kernel has it')


def _files(view: View, known: Collection[str] | None) -> Iterator[Finding]:
    for path, file in sorted(view.files.items()):
        mode = file.entry.mode
        if file.entry.kind == stat.S_IFLNK:
            if not view.find(path) and not _later(path, file.target):
                text = f"leads to {file.target}, which is not there"
                yield Finding(where=f"/{path}", text=text, instead="bring it, or remove the link", wrong=False)
        elif file.entry.kind == stat.S_IFREG:
            if mode & (stat.S_ISUID | stat.S_ISGID):
                text = f"runs with the rights of its owner or group (mode {stat.S_IMODE(mode):04o})"
                yield Finding(where=f"/{path}", text=text, instead=f"chmod {mode & 0o777:04o}", wrong=False)
            own = not file.entry.size or known is None or file.digest in known or _GENERATED.fullmatch(path)
            if not own:
                text = "is of no package, and dracut is not known to write it"
                yield Finding(where=f"/{path}", text=text, instead="bring it by a package, or see who wrote it")


def _later(path: str, target: str) -> bool:
    """Whether a link leads into a folder that is filled when the system runs."""
    place = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    return f"{place}/".startswith(_FILLED_LATER)
