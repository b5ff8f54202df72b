"""A target: anything that is made once and kept in the store under the digest of what it is made from."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kiln import digest
from kiln.errors import KilnError
from kiln.store import Entry, Store, Work, condemn

# Stands in inputs for the content of a dependency that was not built yet.
UNKNOWN = "not built yet"


class Target(ABC):
    """One node of the graph. ``id`` is its task's name, ``name`` and ``version`` its folder's in the store.

    ``inputs`` is complete: equal inputs mean equal results. Where a dependency that counts by its content was not
    built, it holds UNKNOWN, and there is no key yet. ``local`` marks what is made from something that no
    inputs describe, such as a user's working tree, and all that follows from it: it stays in a store of its own.
    """

    id: str
    name: str
    version: str
    doc: str = ""
    # A lazy target is a means only: it is made when one of its users must be.
    lazy = False
    # The mode of plain files in the store.
    file_mode = 0o444

    def __init__(self, store: Store, deps: Sequence["Target"] = (), *, local: bool = False) -> None:
        self.deps = tuple(deps)
        self.local: bool = local or any(dep.local for dep in self.deps)
        self.store = store.local if self.local else store
        # Whether this run made the result, rather than found it.
        self.made = False
        self._entry: Entry | None = None
        self._looked = False
        self._damage: list[str] | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """What the result follows from, as JSON."""

    @abstractmethod
    def fill(self, work: Work) -> dict[str, Any]:
        """Make the result below ``work.root``; returns notes for the stamp."""

    def key(self) -> str | None:
        return self._entry.key if self._entry else key(self.inputs())

    def entry(self) -> Entry | None:
        """The finished result, or None where it was not there when last looked for."""
        pending = [] if self._looked else [self]
        while pending:  # no recursion, since a chain of libraries may be long
            unknown = [dep for dep in pending[-1].deps if not dep._looked]
            if unknown:
                pending += unknown
            else:
                pending.pop().look()
        return self._entry

    def look(self) -> Entry | None:
        """Look for the result again, which may be known or there now that the dependencies are built."""
        self._looked = True
        if self._entry is None:
            self._entry = self._find(self.inputs())
        return self._entry

    def _find(self, inputs: dict[str, Any]) -> Entry | None:
        found = key(inputs)
        return self.store.find(self.name, self.version, found) if found else None

    def content(self) -> str:
        """The digest of the result, where it is there."""
        entry = self.entry()
        return entry.digest if entry else UNKNOWN

    def built(self) -> Entry:
        """The finished result of a target whose task has run."""
        entry = self.entry()
        assert entry, f"{self.id} was not built"
        return entry

    def sound(self) -> Entry:
        """The finished result, each file of it looked at once: what is made of it must not carry damage on.

        Raises KilnError where something was altered, and forgets the result, so that the next run repairs it.
        """
        entry = self.built()
        ours = entry.path.parent == self.store.path
        with self._lock:
            if self._damage is None:
                self._damage = entry.damage()
                if self._damage and ours:
                    with suppress(OSError):  # of a store that can only be read
                        condemn(entry.path)
        if self._damage:  # every user must hear of it, not only the first
            more = f" (and {len(self._damage) - 1} more)" if len(self._damage) > 1 else ""
            hint = "run the same command again, which makes it anew"
            if not ours:
                hint = f"take {entry.path.parent} out of KILN_SHARED, or verify it where it is written"
            message = f"its result was damaged: {self._damage[0]}{more}"
            raise KilnError(message, where=f"{self.id}, {entry.root}", hint=hint)
        return entry

    def build(self) -> None:
        """Make the result, and the lazy dependencies that it needs, unless another thread did; then publish it."""
        with self._lock:
            if not self.look():
                for dep in self.deps:
                    if dep.lazy:
                        dep.build()
                inputs = self.inputs()
                assert key(inputs), f"{self.id} was asked for before its dependencies"
                self._entry = self._make(inputs)
                self._damage = []
                self.made = True
            self.publish()

    def published(self) -> bool:
        """Whether a finished result is where its user looks for it."""
        return True

    def publish(self) -> None:
        """Show the finished result where its user looks for it."""

    def _make(self, inputs: dict[str, Any]) -> Entry:
        return self.store.build(self.name, self.version, inputs, self.fill, file_mode=self.file_mode)

    def clean(self) -> bool:
        known = self.key()
        self._entry = None
        return known is not None and self.store.drop(self.name, self.version, known)


def key(inputs: dict[str, Any]) -> str | None:
    """The key of a result; None where something of its inputs is unknown."""
    for value in inputs.values():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        if any(part is UNKNOWN for part in parts):
            return None
    return digest.of_value(inputs)


def closure(*targets: Target) -> list[Target]:
    """These targets and all that they need, dependencies first."""
    found: dict[str, Target] = {}
    pending = list(reversed(targets))
    while pending:
        missing = [dep for dep in pending[-1].deps if dep.id not in found]
        if missing:
            pending += missing
        else:
            target = pending.pop()
            found[target.id] = target
    return list(found.values())
