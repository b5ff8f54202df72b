"""What an initramfs is made of, whoever made it: segments, sizes, kernel modules, and what it runs in which order."""

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln.initramfs import segments
from kiln.initramfs.listing import printable
from kiln.initramfs.verify import driver
from kiln.initramfs.view import View
from kiln.report.breakdown import Part, compare, groups, leaves, total
from kiln.report.size import human, table

# In the order of dracut's /init; the last four only where something is wrong, or at the end.
_STAGES = (
    "cmdline", "pre-udev", "pre-trigger", "initqueue", "initqueue/settled", "initqueue/timeout", "initqueue/online",
    "initqueue/finished", "netroot", "pre-mount", "mount", "pre-pivot", "cleanup", "emergency", "pre-shutdown",
    "shutdown", "shutdown-emergency",
)  # fmt: skip
# Where dracut looks for them: the same name in a place before wins.
_HOOKS = ("var/lib/dracut/hooks", "etc/dracut/hooks", "usr/lib/dracut/hooks", "lib/dracut/hooks")
# The same of initramfs-tools, which has lists of what to run.
_SCRIPTS = (
    "init-top", "init-premount", "local-top", "local-block", "local-premount", "local-bottom", "nfs-top",
    "nfs-premount", "nfs-bottom", "init-bottom", "panic",
)  # fmt: skip
_DEPTH = 3
_FEW, _DRIVERS = 10, 100


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A segment: ``packed`` and ``unpacked`` are bytes, ``seconds`` what it took to unpack it here."""

    compressor: str
    entries: int
    packed: int
    unpacked: int
    seconds: float


def stretches(path: Path) -> Iterator[Stretch]:
    """Unpack every segment of a file once, and throw away what is in it."""
    started = time.monotonic()
    for segment in segments.read(path):
        entries = sum(not entry.is_trailer for entry in segment)
        now = time.monotonic()
        yield Stretch(
            compressor=segment.compressor,
            entries=entries,
            packed=segment.packed,
            unpacked=segment.unpacked,
            seconds=now - started,
        )
        started = now


def render(path: Path, origins: Mapping[str, Mapping[str, str]], *, boots: Mapping[str, float]) -> Iterator[str]:
    """All that can be told; ``origins`` has the packages and modules of files by path, where they are known.

    ``boots`` are the seconds that kernels took to unpack it, by what booted.
    """
    yield from _segments(path, boots)
    view = View.read(path, keep=True)
    sizes = _sizes(view)
    for kind, title in (("modules", "by module of dracut"), ("packages", "by package")):
        if kind in origins:
            rows = [(origins[kind].get(name, "added later"), name, size) for name, size in sizes.items()]
            yield from _table(title, groups(rows))
    if not origins:
        yield from _table("by folder", groups((_folder(name), name, size) for name, size in sizes.items()))
    yield from _table("files", leaves(sizes))
    drivers = {name.rpartition("/modules/")[2]: size for name, size in sizes.items() if driver(name)}
    yield from _table("kernel modules", leaves(drivers), rows=_DRIVERS)
    yield from _stages(hooks(view))


def hooks(view: View) -> dict[str, list[str]]:
    """What runs, by stage and in order, by dracut or initramfs-tools."""
    found = {stage: list(_hooks(view, stage)) for stage in _STAGES}
    found |= {stage: list(_scripts(view, stage)) for stage in _SCRIPTS}
    return {stage: paths for stage, paths in found.items() if paths}


def _segments(path: Path, boots: Mapping[str, float]) -> Iterator[str]:
    seconds = 0.0
    for number, part in enumerate(stretches(path), 1):
        seconds += part.seconds
        packed = f"{human(part.packed)} of {human(part.unpacked)}, {100 * part.packed / max(part.unpacked, 1):.1f} %"
        yield f"segment {number}  {part.compressor:<5}  {part.entries} entries, {packed}"
    told = [f"{name} took {spent:.2f} s" for name, spent in boots.items()]
    yield f"{printable(os.fspath(path))}: {human(path.stat().st_size)}, unpacked here in {seconds:.2f} s"
    for line in told:
        yield f"  the kernel of {line}"


def _sizes(view: View) -> dict[str, int]:
    """The bytes of each plain file, under the first of its names."""
    found: dict[int, tuple[str, int]] = {}
    for path, file in sorted(view.files.items()):
        if file.entry.kind == stat.S_IFREG:
            found.setdefault(id(file), (path, file.entry.size))
    return dict(found.values())


def _folder(path: str) -> str:
    return "/" + "/".join(path.split("/")[:-1][:_DEPTH])


def _table(title: str, parts: Sequence[Part], *, rows: int = _FEW) -> Iterator[str]:
    if parts:
        whole = total(title, parts)
        change = compare(whole, whole)
        named = [(printable(part.name), part) for part in change.parts]
        yield from ("", *table(title, change, named, compared=False, most=rows))


def _stages(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if found:
        yield from ("", "what runs, by stage")
    width = max(map(len, found), default=0)
    for stage, paths in found.items():
        for number, path in enumerate(paths):
            yield printable(f"  {'' if number else stage:<{width}}  {path}")


def _hooks(view: View, stage: str) -> Iterator[str]:
    seen: set[str] = set()
    for folder in _HOOKS:
        for path, _ in view.matching(f"{re.escape(folder)}/{re.escape(stage)}/[^/]+\\.sh"):
            name = path.rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                yield f"/{path}"


def _scripts(view: View, stage: str) -> Iterator[str]:
    order = view.files.get(f"scripts/{stage}/ORDER")
    for line in order.data.decode(errors="replace").splitlines() if order else ():
        path = line.split()[0] if line.split() else ""
        if path.startswith("/scripts/"):
            yield path
