"""How much room an image takes, and what takes it: as people read it, in the terminal."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kiln.image.manifest import Node
from kiln.report import archives, disks, ext4, filesystems, kernel
from kiln.report.breakdown import Change, Part, total
from kiln.report.media import Reader

ROOT = "root file system"
KERNEL = "kernel, unpacked"

_FORMATS = (
    filesystems.iso, kernel.compressed, disks.efi_program, ext4.ext4, filesystems.fat, disks.disk,
    filesystems.squashfs, filesystems.erofs, archives.archive, kernel.plain,
)  # fmt: skip
_ROWS = 10
_FEW = 3
_WIDEST = 44


def human(size: int) -> str:
    """``512 B``, ``1.9 MB``: a size in bytes, in powers of 1000."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while abs(value) >= 999.95 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{size} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def measure(nodes: Mapping[str, Node], files: Iterable[Path], unpack: Callable[[str, memoryview], bytes]) -> list[Part]:
    """The root file system by package, the kernel by folder where that is known, and each file by what it is made of.

    ``unpack`` gets a compressor's name and what it packed. Raises OSError for a file that cannot be read.
    """
    files = list(files)
    sizes = {path: node.size for path, node in nodes.items() if node.size}
    objects = {file: found for file in files if (found := kernel.objects(file))}
    first = next(iter(objects.values()), {})
    reader = Reader(nodes=nodes, objects=first, unpack=unpack, formats=_FORMATS)
    whole = [total(ROOT, reader.owned(sizes))]
    if first:
        whole.append(total(KERNEL, kernel.unpacked(first)))
    return whole + [replace(reader, objects=objects.get(file, first)).file(file) for file in files]


def render(trees: Sequence[Change], *, compared: bool) -> Iterator[str]:
    """Tables of the biggest parts, or of those that changed most."""
    for line in _lines(trees, compared=compared):
        # Names may hold what a terminal would obey.
        yield "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def _lines(trees: Sequence[Change], *, compared: bool) -> Iterator[str]:
    for tree in trees:
        if tree.name in (ROOT, KERNEL):
            yield from table(tree.name, tree, [(part.name, part) for part in tree.parts], compared=compared)
        if tree.name == ROOT:
            files = [(f"{file.name} ({package.name})", file) for package in tree.parts for file in package.parts]
            yield from table("files", tree, files, compared=compared)
    rest = [(tree.name, tree) for tree in trees if tree.name not in (ROOT, KERNEL)]
    width = max((len(name) for name, _ in rest), default=0)
    for name, tree in _sorted(rest, compared=compared):
        whole = compared and None in (tree.before, tree.after)
        parts = [] if whole else _sorted([(part.name, part) for part in tree.parts], compared=compared)
        told = ", ".join(f"{part} {_size(change, compared=compared)}" for part, change in parts[:_FEW])
        more = f" and {len(parts) - _FEW} more" if len(parts) > _FEW else ""
        yield f"{name:<{width}}  {_size(tree, compared=compared):>9}  {told}{more}".rstrip()


def table(
    title: str, tree: Change, parts: Sequence[tuple[str, Change]], *, compared: bool, most: int = _ROWS
) -> Iterator[str]:
    """The sum, and the biggest of its parts or those that changed most."""
    rows = _sorted(parts, compared=compared)
    width = min(max(len(title), *(len(name) + 2 for name, _ in rows[:most]), 0), _WIDEST)
    yield f"{title:<{width}}  {_size(tree, compared=compared):>9}"
    for name, part in rows[:most]:
        share = "" if compared else f"  {100 * part.size / max(tree.size, 1):5.1f} %"
        yield f"{f'  {name}':<{width}}  {_size(part, compared=compared):>9}{share}"
    if len(rows) > most:
        left = sum(part.growth if compared else part.size for _, part in rows[most:])
        yield f"{f'  {len(rows) - most} more':<{width}}  {_signed(left) if compared else human(left):>9}"


def _sorted(parts: Iterable[tuple[str, Change]], *, compared: bool) -> list[tuple[str, Change]]:
    if not compared:
        return sorted(parts, key=lambda row: (-row[1].size, row[0]))
    changed = (row for row in parts if row[1].growth)
    return sorted(changed, key=lambda row: (-abs(row[1].growth), row[0]))


def _size(change: Change, *, compared: bool) -> str:
    if not compared:
        return ("about " if change.about else "") + human(change.size)
    if change.before is None or change.after is None:
        return f"{'new' if change.before is None else 'gone'}, {_signed(change.growth)}"
    if not change.growth:
        return f"{human(change.size)}, as before"
    return f"{_signed(change.growth)} ({human(change.before)} -> {human(change.size)})"


def _signed(size: int) -> str:
    return f"+{human(size)}" if size > 0 else human(size)
