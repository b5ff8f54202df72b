"""``doit size``: what takes how much room in an image, and how that differs from another one."""

import os
from collections.abc import Mapping
from pathlib import Path

from kiln import board
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.report import diff, treemap
from kiln.report import size as report
from kiln.report.breakdown import Part, compare

_NO_MEDIA = {"manifest.json", "SHA256SUMS", "LOCAL"}


def size(graph: Graph, *others: str, html: str | None) -> None:
    """Tell the sizes of the board's image, or how they differ from those of another; as a page in ``html``, too.

    Without ``html``, the page is ``size.html`` in the board's output folder.
    """
    if len(others) > 1:
        raise KilnError("name one other image", hint="doit size [--html=FILE] [IMAGE]")
    # Not from the output folder alone: where a budget is exceeded, there are links of an older image, or none.
    files = graph.image.files()
    new = _measure(graph, os.fspath(files["manifest.json"]), _links(graph.image.output) | files)
    old = _other(graph, others[0]) if others else new
    # What only one of them tells of did not change.
    silent = {name for name in (report.ROOT, report.KERNEL) if not (name in old and name in new)}
    silent |= {name for name in new if len(old) == 1 and name != report.ROOT}
    trees = [compare(old.get(name), new.get(name)) for name in {**new, **old} if name not in silent]
    print("\n".join(report.render(trees, compared=bool(others))))
    place = Path(html) if html else graph.image.output / "size.html"
    text = treemap.page(graph.image.output.name, trees, before=others[0] if others else None)
    try:
        if not html:
            place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KilnError(f"cannot write it: {error.strerror}", where=os.fspath(place)) from error
    print(f"as a page: {os.path.relpath(place)}")


def _other(graph: Graph, place: str) -> dict[str, Part]:
    """The parts of an image by name; a manifest alone tells of the root file system."""
    listed = diff.read(place, graph.settings).files or {}
    path = graph.settings.output / place if place in board.names(graph.settings.root) else Path(place)
    folder = path if path.is_dir() else path.parent
    files = {name: folder / name for name in listed}
    return _measure(graph, place, {} if path.suffix == ".json" else _links(folder) | files)


def _links(folder: Path) -> dict[str, Path]:
    """What is linked in an output folder, also media that the board does not ask for."""
    there = folder.iterdir() if folder.is_dir() else ()
    return {path.name: path for path in there if path.is_symlink() and path.name not in _NO_MEDIA}


def _measure(graph: Graph, place: str, files: Mapping[str, Path]) -> dict[str, Part]:
    def unpack(packer: str, data: memoryview) -> bytes:
        return graph.tools.sandbox("image").run([packer, "-dc"], input=bytes(data))

    nodes = diff.read(place, graph.settings).nodes
    media = [path for name, path in sorted(files.items()) if name not in _NO_MEDIA]
    try:
        return {part.name: part for part in report.measure(nodes, media, unpack)}
    except OSError as error:
        raise KilnError(f"cannot read it: {error.strerror}", where=error.filename) from error
