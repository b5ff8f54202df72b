"""Cleaning up a store: what no board reaches any more is removed, and the rest is kept for a reason."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln import board as boards
from kiln.graph import Graph
from kiln.report.size import human
from kiln.report.usage import weigh
from kiln.settings import Settings
from kiln.store import Store, Work
from kiln.target import closure
from kiln.trees import remove

_OTHERS = ("work", "roots", "ccache", "kept")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A folder of a store, the bytes it takes, and why it stays; an empty reason lets it go."""

    path: Path
    size: int
    reason: str


def sort_out(settings: Settings) -> list[Item]:
    """Everything in the project's stores that takes room. Raises KilnError for a board that cannot be loaded."""
    graphs = {name: Graph.load(settings, name) for name in boards.names(settings.root)}
    stores = [store for graph in list(graphs.values())[:1] for store in (graph.store, graph.store.local)]
    reached: dict[Path, str] = {}
    for name, graph in graphs.items():
        for target in [*closure(graph.image, *graph.media.values()), *graph.tools]:
            entry = target.entry()
            if entry:
                reached.setdefault(entry.path, f"board {name}")
            known = target.key()
            if known:
                reached.setdefault(target.store.work(target.name, target.version, known).path, f"board {name}")
    for store in stores:
        for owner, names in store.roots().items():
            if any(path.is_symlink() for path in Path(owner).glob("*")):
                for each in names:
                    reached.setdefault(store.path / each, f"image in {os.path.relpath(owner)}")
    return [item for store in stores for item in _items(store, reached)]


def _items(store: Store, reached: Mapping[Path, str]) -> Iterator[Item]:
    for path in sorted(store.path.glob("*")):
        if path.is_dir() and path.name not in _OTHERS:
            yield Item(path=path, size=weigh(path), reason=reached.get(path, ""))
    for path in sorted((store.path / "work").glob("*")):
        failed = Work(path=path).failed.exists()
        yield Item(
            path=path, size=weigh(path), reason=reached.get(path, "") and "failed, for doit shell" if failed else ""
        )
    for path in sorted((store.path / "kept").glob("*/*")):
        yield Item(path=path, size=weigh(path), reason="kept build folder: remove it by hand when you are done")


def render(items: list[Item], *, dry: bool) -> Iterator[str]:
    """What goes, then how much is kept for which reason."""
    free = [item for item in items if not item.reason]
    for item in sorted(free, key=lambda item: (-item.size, item.path)):
        yield f"{'would free' if dry else 'free':<11} {human(item.size):>9}  {item.path.name}"
    kept: dict[str, list[int]] = {}
    for item in items:
        if item.reason:
            kept.setdefault(item.reason, []).append(item.size)
    for reason, sizes in sorted(kept.items(), key=lambda pair: -sum(pair[1])):
        yield f"{'keep':<11} {human(sum(sizes)):>9}  {len(sizes)} for {reason}"
    size = human(sum(item.size for item in free))
    yield f"{size} in {len(free)} folders {'would be freed; doit gc frees them' if dry else 'are freed'}"


def free(items: list[Item]) -> None:
    """Remove what may go."""
    for item in items:
        if not item.reason:
            remove(item.path)
