from pathlib import Path
from typing import Any

import pytest

from kiln.store import Store, Work
from kiln.target import Target, difference


class Note(Target):
    """A file with a text; it counts its dependencies by content."""

    version = "1"

    def __init__(self, name: str, text: str, store: Store, *deps: Target) -> None:
        super().__init__(store)
        self.id = self.name = name
        self.text = text
        self.deps = deps

    def inputs(self) -> dict[str, Any] | None:
        entries = [dep.entry() for dep in self.deps]
        if not all(entries):
            return None
        return {"name": self.name, "text": self.text, "deps": [entry.digest for entry in entries if entry]}

    def fill(self, work: Work) -> dict[str, Any]:
        (work.root / "note").write_text(self.text.strip())
        return {"length": len(self.text)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_target_is_built_once_and_found_again(store: Store) -> None:
    note = Note("note", "text", store)
    assert note.entry() is None
    note.build()
    assert (note.built().root / "note").read_text() == "text"
    assert note.built().notes == {"length": 4}
    assert Note("note", "text", store).entry() == note.built()
    assert Note("note", "other", store).entry() is None


def test_it_waits_for_dependencies_that_count_by_content(store: Store) -> None:
    first = Note("first", "a", store)
    second = Note("second", "b", store, first)
    assert second.key() is None
    assert list(second.reasons()) == ["waits for first"]
    first.build()
    assert second.key()
    assert list(second.reasons()) == ["was never built"]


def test_an_equal_dependency_changes_nothing(store: Store) -> None:
    first = Note("first", "a", store)
    first.build()
    Note("second", "b", store, first).build()
    again = Note("first", " a ", store)
    again.build()
    assert again.built().key != first.built().key
    assert Note("second", "b", store, again).entry()


def test_it_tells_why_it_is_not_fresh(store: Store) -> None:
    note = Note("note", "old", store)
    note.build()
    assert list(note.reasons()) == []
    assert list(Note("note", "new", store).reasons()) == ["text: old -> new"]


def test_cleaning_removes_the_result(store: Store) -> None:
    note = Note("note", "text", store)
    assert not note.clean()
    note.build()
    assert note.clean()
    assert note.entry() is None
    assert not list(store.path.glob("note-*"))


def test_the_closure_has_dependencies_first_and_once(store: Store) -> None:
    base = Note("base", "", store)
    left, right = Note("left", "", store, base), Note("right", "", store, base)
    assert Note("top", "", store, left, right).closure[:-1] == (base, left, right)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": 1}, {"b": 1}, ["a: gone", "b: new"]),
        ({"a": {"b": None}}, {"a": {"b": "x"}}, ["a.b: None -> x"]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["a[1].b: 2 -> 3"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1] -> [1, 2]"]),
        ({"a": "0" * 64}, {"a": "f" * 64}, ["a: 000000000000 -> ffffffffffff"]),
        ({"a": ""}, {"a": "x" * 99}, [f"a:  -> {'x' * 57}..."]),
    ],
)
def test_the_difference_of_two_inputs(old: Any, new: Any, lines: list[str]) -> None:
    assert difference(old, new) == lines
