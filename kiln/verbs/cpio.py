"""What a user does with an initramfs, whoever made it: look into it, take it apart, put it together again."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kiln.errors import KilnError, say
from kiln.graph import Graph
from kiln.initramfs import compression, folder, listing, packing, sidecar
from kiln.initramfs.view import View
from kiln.report import diff as comparison

LIST = "doit cpio:list FILE"
UNPACK = "doit cpio:unpack FILE FOLDER [MOST]"
REPACK = "doit cpio:repack FOLDER FILE [COMPRESS=NAME]"
APPEND = "doit cpio:append FILE WHAT... OUT [COMPRESS=NAME], where WHAT is a folder, a file, or FILE:/PATH/IN/IT"
DIFF = "doit cpio:diff FILE_A FILE_B"

# An initramfs is unpacked into the memory of a machine, and few have more, in bytes.
_MOST = 8 << 30
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def list_(graph: Graph, *words: str) -> None:  # noqa: ARG001
    """Every entry of an initramfs by segment."""
    (path,) = _given(words, 1, LIST)
    show(listing.lines(Path(path)))


def unpack(graph: Graph, *words: str) -> None:  # noqa: ARG001
    """An initramfs as a folder that ``repack`` makes the same one from."""
    path, place, *limit = _given(words, 2, UNPACK, most=3)
    parts = folder.unpack(Path(path), Path(place), most=_size(limit[0]) if limit else _MOST)
    for part in parts:
        entries = sum(not record.entry.is_trailer for record in part.records)
        print(f"{os.path.join(place, part.folder)}: {entries} entries, {part.compressor}")
    print(f"owners, devices and times are in {os.path.join(place, sidecar.NAME)}")


def repack(graph: Graph, *words: str, compress: str = "") -> None:  # noqa: ARG001
    """An initramfs from an unpacked folder."""
    place, path = _given(words, 2, REPACK)
    packing.repack(Path(place), Path(path), compress=compress)
    print(f"{path}: {Path(path).stat().st_size} bytes")


def append(graph: Graph, *words: str, compress: str = "") -> None:  # noqa: ARG001
    """An initramfs with a segment more, whose files win over those before; the rest is copied as it is."""
    base, *what, path = _given(words, 3, APPEND, most=1000)
    compressor = compression.named(compress or compression.NONE).name
    view = View.read(Path(base))
    files: dict[str, Path] = {}
    for word in what:
        files |= dict(_files(word))
    items = packing.items(files, view)
    packing.append(Path(base), Path(path), items, after=view.compressor, compress=compressor)
    for item in items:
        print(f"/{listing.printable(item.entry.name)}")
    print(f"{path}: {Path(path).stat().st_size} bytes")


def diff(graph: Graph, *words: str) -> None:  # noqa: ARG001
    """How two initramfs differ, path by path, once a kernel has unpacked them."""
    places = _given(words, 2, DIFF)
    views = [View.read(Path(place)) for place in places]
    for place, view in zip(places, views, strict=True):
        for line in view.lost:
            say(f"{place}: kernels leave out {listing.printable(line)}")
    before, after = (
        comparison.Image(place=place, nodes={node.path: node for node in view.nodes()}, files=None)
        for place, view in zip(places, views, strict=True)
    )
    show(comparison.render(before, after))


def show(lines: Iterable[str]) -> None:
    """Print lines to somebody who may stop reading, as ``head`` does."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as nobody:
            os.dup2(nobody.fileno(), sys.stdout.fileno())


def _given(words: Sequence[str], least: int, usage: str, *, most: int = 0) -> list[str]:
    if not least <= len(words) <= max(least, most):
        problem = f"{len(words)} words are too {'few' if len(words) < least else 'many'}" if words else "name a file"
        raise KilnError(problem, hint=usage)
    return list(words)


def _size(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]*)([KMGT])", text)
    if not match:
        raise KilnError(f"{text!r} is no size", hint=f"write a number and K, M, G or T, such as 16G: {UNPACK}")
    return int(match[1]) << _UNITS[match[2]]


def _files(word: str) -> Iterator[tuple[str, Path]]:
    """What a word of ``append`` stands for, by path in the archive."""
    given, _, target = word.partition(":") if not os.path.lexists(word) else (word, "", "")
    place = Path(given)
    if not os.path.lexists(place):
        raise KilnError("there is no such file or folder", where=given, hint=APPEND)
    path = folder.place_of(target)
    if place.is_symlink() or not place.is_dir():
        yield path or place.name, place
        return
    if (place / sidecar.NAME).exists():
        raise KilnError("is an unpacked initramfs", where=given, hint=f"name a segment of it, such as {place}/1")
    for found, folders, names in os.walk(place):
        below = os.path.relpath(found, place)
        links = [name for name in folders if os.path.islink(os.path.join(found, name))]
        for name in sorted({*names, *links}):
            yield folder.place_of(f"{path}/{below}/{name}"), Path(found, name)
        if not names and not folders and below != ".":
            yield folder.place_of(f"{path}/{below}"), Path(found)
