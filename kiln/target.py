"""A target: anything that is made once and kept in the store under the digest of what it is made from."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from kiln import digest
from kiln.store import Entry, Store, Work


class Target(ABC):
    """One node of the graph. ``id`` is its task's name, ``name`` and ``version`` its folder's in the store.

    ``inputs`` is complete: equal inputs mean equal results. It is None as long as a dependency that counts by its
    content was not built, since nobody knows that content yet.
    """

    id: str
    name: str
    version: str
    doc: str = ""
    deps: tuple["Target", ...] = ()
    # A lazy target is a means only: it is made when one of its users must be.
    lazy = False
    # The mode of plain files in the store.
    file_mode = 0o444

    def __init__(self, store: Store) -> None:
        self.store = store
        self._entry: Entry | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def inputs(self) -> dict[str, Any] | None:
        """What the result follows from, as JSON."""

    @abstractmethod
    def fill(self, work: Work) -> dict[str, Any]:
        """Make the result below ``work.root``; returns notes for the stamp."""

    def key(self) -> str | None:
        inputs = self.inputs()
        return None if inputs is None else digest.of_value(inputs)

    def entry(self) -> Entry | None:
        """The finished result, or None where it is yet to be made."""
        if self._entry is None:
            self._entry = self._find(self.inputs())
        return self._entry

    def _find(self, inputs: dict[str, Any] | None) -> Entry | None:
        return self.store.find(self.name, self.version, digest.of_value(inputs)) if inputs is not None else None

    def built(self) -> Entry:
        """The finished result of a target whose task has run."""
        entry = self.entry()
        assert entry, f"{self.id} was not built"
        return entry

    def build(self) -> None:
        """Make the result, and the lazy dependencies that it needs, unless another thread did."""
        with self._lock:
            if self.entry():
                return
            for dep in self.deps:
                if dep.lazy:
                    dep.build()
            inputs = self.inputs()
            assert inputs is not None, f"{self.id} was asked for before its dependencies"
            self._entry = self.store.build(self.name, self.version, inputs, self.fill, file_mode=self.file_mode)

    def clean(self) -> bool:
        key = self.key()
        self._entry = None
        return key is not None and self.store.drop(self.name, self.version, key)

    @cached_property
    def closure(self) -> tuple["Target", ...]:
        """This target and all that it needs, dependencies first."""
        found: dict[str, Target] = {}
        for dep in self.deps:
            found |= {target.id: target for target in dep.closure}
        return (*found.values(), self)

    def reasons(self) -> Iterator[str]:
        """Why this target is not fresh; nothing where it is."""
        if self.entry():
            return
        inputs = self.inputs()
        if inputs is None:
            missing = [dep.id for dep in self.deps if not dep.entry()]
            yield f"waits for {', '.join(missing)}"
            return
        last = next(self.store.entries(self.name), None)
        if last is None:
            yield "was never built"
            return
        yield from difference(last.inputs, inputs) or ["its result was removed"]


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """How two JSON values differ, a line for each place: ``where: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: list[str] = []
        for name in sorted(old.keys() | new.keys()):
            place = f"{path}.{name}" if path else name
            if name in old and name in new:
                lines += difference(old[name], new[name], place)
            else:
                lines.append(f"{place}: {'gone' if name in old else 'new'}")
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for index, (a, b) in pairs for line in difference(a, b, f"{path}[{index}]")]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
