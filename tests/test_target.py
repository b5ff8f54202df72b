from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.store import Store, Work
from kiln.target import Target, closure


class Note(Target):
    """A file with a text; it counts its dependencies by content."""

    version = "1"

    def __init__(self, name: str, text: str, store: Store, *deps: Target, local: bool = False) -> None:
        super().__init__(store, deps, local=local)
        self.id = self.name = name
        self.text = text

    def inputs(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "deps": [dep.content() for dep in self.deps]}

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
    assert (second.key(), second.entry()) == (None, None)
    first.build()
    assert second.key()
    assert second.look() is None
    second.build()
    assert second.entry()


def test_an_equal_dependency_changes_nothing(store: Store) -> None:
    first = Note("first", "a", store)
    first.build()
    Note("second", "b", store, first).build()
    again = Note("first", " a ", store)
    again.build()
    assert again.built().key != first.built().key
    assert Note("second", "b", store, again).entry()


def test_cleaning_removes_the_result(store: Store) -> None:
    note = Note("note", "text", store)
    assert not note.clean()
    note.build()
    assert note.clean()
    assert note.entry() is None
    assert not list(store.path.glob("note-*"))


def test_what_follows_from_something_local_lies_in_a_store_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", local=Store(tmp_path / "local"))
    base, tree = Note("base", "a", store), Note("tree", "b", store, local=True)
    top = Note("top", "c", store, base, tree)
    for target in closure(top):
        target.build()
    assert [target.local for target in (base, tree, top)] == [False, True, True]
    assert [target.built().path.parent.name for target in (base, tree, top)] == ["store", "local", "local"]


def test_a_damaged_result_is_named_forgotten_and_made_anew(store: Store) -> None:
    Note("note", "text", store).build()
    note = Note("note", "text", store)
    file = note.built().root / "note"
    file.chmod(0o644)
    file.write_text("test")
    for _ in range(2):  # all that use it must hear of it
        with pytest.raises(
            KilnError, match=r"note-1-.*: its result was damaged: note was altered\n  run the same command"
        ):
            note.sound()
    again = Note("note", "text", store)
    assert again.entry() is None
    again.build()
    assert (again.sound().root / "note").read_text() == "text"


def test_a_damaged_result_of_a_shared_store_is_named_and_left(store: Store, tmp_path: Path) -> None:
    Note("note", "text", store).build()
    note = Note("note", "text", Store(tmp_path / "own", shared=[store.path]))
    file = note.built().root / "note"
    file.chmod(0o644)
    file.write_text("test")
    with pytest.raises(KilnError, match=rf"note was altered\n  take {store.path} out of KILN_SHARED"):
        note.sound()
    assert (note.built().path / "stamp.json").exists()


def test_the_closure_has_dependencies_first_and_once(store: Store) -> None:
    base = Note("base", "", store)
    left, right = Note("left", "", store, base), Note("right", "", store, base)
    top = Note("top", "", store, left, right)
    assert [target.id for target in closure(top, base)] in (
        ["base", "left", "right", "top"],
        ["base", "right", "left", "top"],
    )


def test_a_long_chain_is_no_matter(store: Store) -> None:
    target = Note("note", "", store)
    for number in range(5000):
        target = Note(f"note{number}", "", store, target)
    assert len(closure(target)) == 5001
