import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln.graph import Graph
from kiln.report.why import difference, reasons, why
from kiln.settings import Settings
from kiln.store import Store, condemn
from kiln.target import closure
from kiln.trees import remove
from tests.project import Project
from tests.test_target import Note

ROOT = Path(__file__).parent.parent
RUN = {"run": ["make", "all"], "cwd": "/build", "env": {}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def explain(target: Note) -> list[str]:
    return list(why(target, lambda _: True))


def test_a_fresh_target_needs_nothing(store: Store) -> None:
    note = Note("note", "old", store)
    note.build()
    assert explain(note) == [f"note is up to date: {note.built().path}"]


def test_the_difference_to_the_nearest_result_is_told(store: Store) -> None:
    for text in ("old", "far"):
        Note("note", text, store, Note("dep", text, store)).deps[0].build()
        Note("note", text, store, Note("dep", text, store)).build()
    assert list(reasons(Note("new", "text", store))) == ["was never built"]
    assert list(reasons(Note("note", "new", store, Note("dep", "old", store)))) == ["text: old -> new"]


def test_what_only_hangs_on_others_follows_from_the_first_cause(store: Store) -> None:
    def chain(text: str, last: str) -> Note:
        first = Note("first", text, store)
        return Note("last", last, store, Note("middle", "m", store, first))

    for target in closure(chain("a", "z")):
        target.build()
    assert explain(chain("b", "z")) == [
        "first                  will be built",
        "    text: a -> b",
        "middle                 follows, if first comes out different",
        "last                   follows, if middle comes out different",
    ]
    assert explain(chain("b", "y"))[-3:] == [
        "last                   will be built",
        "    text: z -> y",
        "middle                 follows, if first comes out different",
    ]


def test_a_result_that_is_gone_or_damaged_is_told_from_a_change(store: Store) -> None:
    Note("note", "old", store).build()
    note = Note("note", "new", store)
    note.build()
    place = note.built().path
    store.remember("/image", [place.name])
    condemn(note.built().path)
    assert list(reasons(Note("note", "new", store))) == [f"its result was damaged, and is set aside: {place}"]
    remove(place)
    assert list(reasons(Note("note", "new", store))) == [f"its result is gone: {place}"]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": 1}, {"b": 1}, ["a: gone (1)", "b: new (1)"]),
        ({"a": {"b": None}}, {"a": {"b": "x"}}, ["a.b: None -> x"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]: 2 -> 3"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a[1]: nothing -> 2"]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, ["a[1]: 2 -> nothing"]),
        ({"a": "0" * 64}, {"a": "f" * 64}, ["a: 000000000000 -> ffffffffffff"]),
        ({"a": ""}, {"a": "x" * 199}, [f"a:  -> {'x' * 47} ... {'x' * 48}"]),
        ({"p": [RUN]}, {"p": [RUN | {"run": ["make", "a b"]}]}, ["p[0]: make all -> make 'a b'"]),
        ({"p": [RUN]}, {"p": [{"folder": "/dest/a"}, RUN]}, ["p[0]: nothing -> mkdir -p /dest/a"]),
    ],
)
def test_the_difference_of_two_inputs(old: Any, new: Any, lines: list[str]) -> None:
    assert difference(old, new) == lines


@pytest.mark.sandbox
def test_doit_why_tells_the_changed_command_before_anything_is_built(
    real_project: Project, write: Callable[[str, str], Path]
) -> None:
    text = "@package.install\ndef install(step, board):\n    step.write('text', '{}')\n"
    real_project.recipe("lib", phases=text.format("one"))
    real_project.recipe("app", "libs=('lib',)", phases=text.format("app"))
    assert real_project.doit("app").returncode == 0
    assert "app:build is up to date" in real_project.doit("why", "app").stdout
    real_project.recipe("lib", phases=text.format("two"))
    said = real_project.doit("why", "app").stdout
    assert "lib:build              will be built\n    phases.install[0]: " in said
    assert "app:build              follows, if lib:build comes out different" in said
    assert "printf %s one" in said
    assert "printf %s two" in said
    unknown = real_project.doit("why", "ap")
    assert unknown.returncode != 0
    assert "there is no package or target 'ap'\n    did you mean app" in unknown.stdout


@pytest.mark.parametrize("board", sorted(path.stem for path in (ROOT / "configs").glob("*.toml")))
def test_inputs_come_back_from_a_stamp_as_they_were(board: str) -> None:
    for target in Graph.load(Settings.read(ROOT), board).targets:
        inputs = target.inputs()
        assert json.loads(json.dumps(inputs)) == inputs
