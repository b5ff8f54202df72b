"""How two images differ: every path that one has and the other has not, or has otherwise."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import board
from kiln.errors import KilnError, nearest
from kiln.image.manifest import Node
from kiln.report.size import human
from kiln.settings import Settings

_MANIFEST = "manifest.json"
_SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MAKE = f"name a board, a folder as `doit image` leaves it, or the {_MANIFEST} in it"
_COPY = "copy images with `cp -rL`, so that no links come along, or make them again with `doit image`"
_KINDS = ("file", "dir", "symlink", "char", "block", "fifo")
_SIGNS = {"+": "added", "-": "removed", "~": "changed"}
# Longer paths push the rest of their line to the right.
_WIDEST = 48
# More lines scroll away, so that the packages' sums are told after them.
_SCREEN = 40


@dataclass(frozen=True, kw_only=True)
class Image:
    """``nodes`` is the root file system by path, ``files`` the other image files by name; None where nobody knows.

    ``place`` is what the user calls it.
    """

    place: str
    nodes: Mapping[str, Node]
    files: Mapping[str, Node] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A path that was removed (no ``after``), added (no ``before``), or differs."""

    before: Node | None
    after: Node | None

    @property
    def node(self) -> Node:
        node = self.after or self.before
        assert node
        return node

    @property
    def sign(self) -> str:
        return "~" if self.before and self.after else "+" if self.after else "-"

    @property
    def growth(self) -> int:
        """In bytes."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)

    def __str__(self) -> str:
        return ", ".join(_changes(self.before, self.after) if self.before and self.after else _describe(self.node))


def read(place: str, settings: Settings) -> Image:
    """The image that ``place`` means: a board, a folder with a manifest, a manifest, or an image in such a folder.

    The sizes and digests of image files are those of SHA256SUMS and of the disk; the files are not read.
    Raises KilnError where there is no such thing, or it is damaged.
    """
    boards = board.names(settings.root)
    path = settings.output / place if place in boards else Path(place)
    if place in boards and not os.path.lexists(path / _MANIFEST):
        raise KilnError(f"no image of {place} was built", where=os.fspath(path), hint=f"doit image BOARD={place}")
    if os.path.isdir(path):
        return _folder(place, path)
    if not os.path.lexists(path):
        there = boards if path.name == place else _images(path.parent)
        raise KilnError(f"there is no board, folder or image {place!r}", hint=nearest(path.name, there))
    if path.suffix == ".json":
        return Image(place=place, nodes=_nodes(path), files=None)
    if os.path.lexists(path.parent / _MANIFEST):
        image = _folder(place, path.parent)
        if path.name in (image.files or ()):
            return image
    raise KilnError("is no image, or has no manifest beside it", where=place, hint=_MAKE)


def compare(before: Mapping[str, Node], after: Mapping[str, Node]) -> list[Change]:
    """What differs, by package and path; who owns a path counts, too."""
    both = ((before.get(path), after.get(path)) for path in before.keys() | after.keys())
    found = [Change(before=old, after=new) for old, new in both if old != new]
    return sorted(found, key=lambda change: (change.node.package, change.node.path))


def render(before: Image, after: Image) -> Iterator[str]:
    """A line for each path, and a last one with the sums."""
    for line in _lines(before, after):
        # Names may hold what a terminal would obey.
        yield "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def _lines(before: Image, after: Image) -> Iterator[str]:
    nodes = compare(before.nodes, after.nodes)
    known = before.files is not None and after.files is not None
    files = compare(before.files or {}, after.files or {}) if known else []
    sizes = _sizes(_total(before), _total(after))
    if not nodes and not files:
        images = f"; image files: {len(after.files or ())}" if known else ""
        yield f"{before.place} and {after.place} hold the same: {len(after.nodes)} paths, {sizes}{images}"
        return
    yield from _table(nodes, files)
    if len(nodes) > _SCREEN:
        yield from _packages(nodes)
    if (before.files is None) != (after.files is None):
        bare = before if before.files is None else after
        yield f"{bare.place} tells of no other files, so the root file systems alone were compared"
    images = f"; image files: {_sum(files)}" if files else ""
    yield f"root file system: {_sum(nodes) or 'the same'}, {sizes}{images}"


def _images(folder: Path) -> list[str]:
    """What of a folder ``read`` could read."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [name for name in names if name.endswith(".json") or os.path.lexists(folder / name / _MANIFEST)]


def _folder(place: str, path: Path) -> Image:
    if not os.path.lexists(path / _MANIFEST):
        raise KilnError(f"has no {_MANIFEST}", where=os.fspath(path), hint=_MAKE)
    files = dict(_files(path)) if os.path.lexists(path / _SUMS) else None
    return Image(place=place, nodes=_nodes(path / _MANIFEST), files=files)


def _files(path: Path) -> Iterator[tuple[str, Node]]:
    for line in _read(path / _SUMS).decode(errors="replace").splitlines():
        found = _SUM.fullmatch(line)
        if not found:
            raise KilnError(f"{line!r} is not a checksum and a name", where=os.fspath(path / _SUMS), hint=_COPY)
        name = found[2]
        if name == _MANIFEST:
            continue
        try:
            size = os.stat(path / name).st_size
        except OSError as error:
            raise KilnError(f"cannot find {name}: {error.strerror}", where=os.fspath(path), hint=_COPY) from error
        yield name, Node(path=name, kind="file", mode=0o644, package="(image)", digest=found[1], size=size)


def _nodes(path: Path) -> dict[str, Node]:
    try:
        rows = json.loads(_read(path))
        if not isinstance(rows, list):
            raise ValueError("it is not a list of paths")
        nodes = {row["path"]: _node(row) for row in rows}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, KilnError) as error:
        problem = f"a path has no {error}" if isinstance(error, KeyError) else error
        raise KilnError(f"is not a whole manifest: {problem}", where=os.fspath(path), hint=_MAKE) from error
    return nodes


def _node(row: dict[str, Any]) -> Node:
    """The reverse of ``Node.to_json``."""
    kind, device = row["type"], row.get("device")
    if kind not in _KINDS:
        raise ValueError(f"unknown type {kind!r}")
    return Node(
        path=row["path"],
        kind=kind,
        mode=int(row["mode"], 8),
        package=str(row["package"]),
        uid=int(row["uid"]),
        gid=int(row["gid"]),
        digest=str(row["sha256"]) if kind == "file" else "",
        size=int(row["size"]) if kind == "file" else 0,
        target=str(row["target"]) if kind == "symlink" else "",
        device=(int(device[0]), int(device[1])) if device else None,
        capabilities=tuple(map(str, row.get("capabilities", ()))),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KilnError(f"cannot read it: {error.strerror}", where=os.fspath(path), hint=_COPY) from error


def _changes(old: Node, new: Node) -> Iterator[str]:
    if old.kind != new.kind:
        yield f"type {_what(old)} -> {_what(new)}"
    else:
        if (old.digest, old.size) != (new.digest, new.size):
            yield f"content ({_sizes(old.size, new.size)})"
        if (old.target, old.device) != (new.target, new.device):
            yield f"target {_leads(old)} -> {_leads(new)}"
    # The mode of a link means nothing.
    if old.mode != new.mode and "symlink" not in (old.kind, new.kind):
        yield f"mode {old.mode:04o} -> {new.mode:04o}"
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}"
    if old.capabilities != new.capabilities:
        yield f"capabilities {' '.join(old.capabilities) or 'none'} -> {' '.join(new.capabilities) or 'none'}"
    if old.package != new.package:
        yield f"package {old.package} -> {new.package}"


def _describe(node: Node) -> Iterator[str]:
    yield _what(node)
    if node.mode not in (0o644, 0o755) and node.kind != "symlink":
        yield f"mode {node.mode:04o}"
    if node.uid or node.gid:
        yield f"owner {node.uid}:{node.gid}"
    if node.capabilities:
        yield f"capabilities {' '.join(node.capabilities)}"


def _what(node: Node) -> str:
    return f"{node.kind} {human(node.size) if node.kind == 'file' else _leads(node)}".rstrip()


def _leads(node: Node) -> str:
    """What stands behind a link or a device."""
    return ":".join(map(str, node.device)) if node.device else node.target


def _table(nodes: Iterable[Change], files: Iterable[Change]) -> Iterator[str]:
    rows = [(change, f"/{change.node.path}") for change in nodes] + [(change, change.node.path) for change in files]
    package = max((len(change.node.package) for change, _ in rows), default=0)
    path = min(max((len(name) for _, name in rows), default=0), _WIDEST)
    for change, name in rows:
        yield f"{change.sign} {change.node.package:<{package}}  {name:<{path}}  {change}"


def _packages(changes: Iterable[Change]) -> Iterator[str]:
    packages: dict[str, list[Change]] = {}
    for change in changes:
        packages.setdefault(change.node.package, []).append(change)
    width = max(map(len, packages))
    for name, found in packages.items():
        yield f"{name:<{width}}  {_sum(found)}"


def _sum(changes: Sequence[Change]) -> str:
    """How many paths of each sign, and the bytes that came and went."""
    counts = Counter(change.sign for change in changes)
    words = [f"{counts[sign]} {word}" for sign, word in _SIGNS.items() if counts[sign]]
    came = sum(change.growth for change in changes if change.growth > 0)
    went = sum(-change.growth for change in changes if change.growth < 0)
    return ", ".join(words + [f"{sign}{human(size)}" for sign, size in (("+", came), ("-", went)) if size])


def _total(image: Image) -> int:
    return sum(node.size for node in image.nodes.values())


def _sizes(old: int, new: int) -> str:
    """Two sizes that are seen to differ where they do."""
    if old == new:
        return human(old)
    short = human(old), human(new)
    return " -> ".join(short) if short[0] != short[1] else f"{old} -> {new} B"
