import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import digest
from kiln.errors import KilnError
from kiln.store import FORMAT, Entry, Store, Work, condemn
from kiln.trees import EPOCH, remove

ROOT = Path(__file__).parent.parent
INPUTS = {"name": "thing", "version": "1", "text": "hello"}
KEY = digest.of_value(INPUTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(work: Work) -> dict[str, Any]:
    (work.root / "bin").mkdir()
    (work.root / "bin/run").write_text("#!/bin/sh\n")
    (work.root / "bin/run").chmod(0o4711)
    (work.root / "note").write_text("hello")
    (work.root / "note").chmod(0o660)
    (work.root / "link").symlink_to("note")
    work.note("made it")
    (work.folder("scratch") / "left").touch()
    return {"by": "hand"}


def build(store: Store, inputs: dict[str, Any] = INPUTS) -> Entry:
    return store.build("thing", "1", inputs, fill)


def fail(work: Work) -> dict[str, Any]:
    fill(work)
    (work.path / "failed").write_text("configure")
    raise KilnError("no compiler")


def run(store: Store, code: str, *launcher: str) -> "subprocess.Popen[str]":
    """Another process, with ``store`` and what this file imports."""
    head = f"from tests.test_store import *\nstore = Store(Path({os.fspath(store.path)!r}))\n"
    command = [*launcher, sys.executable, "-c", head + code]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_build_is_published_and_found(store: Store) -> None:
    entry = build(store)
    assert entry.path == store.path / f"thing-1-{KEY[:12]}"
    assert names(entry.path) == ["files.json", "log", "root", "stamp.json"]
    assert (entry.root / "note").read_text() == "hello"
    assert entry.log.read_text() == "made it\n"
    assert (entry.key, entry.inputs, entry.notes) == (KEY, INPUTS, {"by": "hand"})
    assert entry.digest == digest.of_tree(entry.root).hash
    assert Store(store.path).find("thing", "1", KEY) == entry
    assert names(store.path / "work") == []


def test_an_entry_is_sealed(store: Store) -> None:
    root = build(store).root
    found = {path: os.lstat(root / path) for path in ("", "bin", "bin/run", "note", "link")}
    assert {path: stat.S_IMODE(info.st_mode) for path, info in found.items() if path != "link"} == {
        "": 0o555,
        "bin": 0o555,
        "bin/run": 0o555,
        "note": 0o444,
    }
    assert {info.st_mtime for info in found.values()} == {EPOCH}


def test_files_keep_a_mode_for_builds_that_copy_them(store: Store) -> None:
    root = store.build("thing", "1", INPUTS, fill, file_mode=0o644).root
    assert [stat.S_IMODE(os.lstat(root / path).st_mode) for path in ("bin", "bin/run", "note")] == [0o555, 0o755, 0o644]


def test_nothing_is_made_twice(store: Store) -> None:
    entry = build(store)
    assert store.build("thing", "1", INPUTS, fail) == entry


def test_other_inputs_are_another_entry(store: Store) -> None:
    other = digest.of_value(INPUTS | {"text": "bye"})
    entry = build(store)
    assert store.find("thing", "1", other) is None
    assert store.find("thing", "2", KEY) is None
    # The folder's name has the first digits only.
    assert store.find("thing", "1", KEY[:12] + other[12:]) is None
    assert build(store, INPUTS | {"text": "bye"}).digest == entry.digest
    assert len(list(store.entries("thing"))) == 2


def test_entries_are_those_of_a_name_newest_first(store: Store) -> None:
    old, new = build(store), build(store, INPUTS | {"version": "2"})
    store.build("thing-configure", "1", {"name": "thing-configure"}, fill)
    os.utime(old.path / "stamp.json", (EPOCH, EPOCH))
    assert [entry.key for entry in store.entries("thing")] == [new.key, old.key]
    assert list(store.entries("nothing")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda stamp: stamp.unlink(),
        lambda stamp: stamp.write_bytes(b""),
        lambda stamp: stamp.write_bytes(stamp.read_bytes()[:-20]),
        lambda stamp: stamp.write_bytes(b"\xff\xfe"),
        lambda stamp: stamp.write_text("[]"),
        lambda stamp: stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"digest": "0" * 64})),
        lambda stamp: stamp.write_text(json.dumps({"format": FORMAT, "key": KEY})),
        lambda stamp: stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"format": 1})),
        lambda stamp: remove(stamp.parent / "root"),
    ],
    ids=["gone", "empty", "cut", "no text", "a list", "altered", "half", "an older format", "no files"],
)
def test_a_damaged_entry_is_not_found_and_made_anew(
    store: Store, damage: Callable[[Path], object], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = build(store)
    damage(entry.path / "stamp.json")
    assert store.find("thing", "1", KEY) is None
    assert list(store.entries("thing")) == []
    quiet = request.node.callspec.id in ("gone", "an older format", "no files")
    said = capsys.readouterr().err
    assert said == "" if quiet else said.startswith(f"damaged  {entry.path}/stamp.json (") and said.count("\n") == 1
    assert build(store).digest == entry.digest
    assert store.find("thing", "1", KEY)


def alter(path: Path, change: Callable[[Path], object]) -> None:
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    change(path)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("root/note", lambda path: path.write_text("hallo"), "note was altered"),
        ("root/bin/run", lambda path: path.unlink(), "bin/run is missing"),
        ("root/bin/run", lambda path: path.chmod(0o644), "bin/run was altered"),
        ("root/link", lambda path: path.rename(path.with_name("moved")), "link is missing"),
        ("root/bin/new", lambda path: path.write_text(""), "bin/new was added"),
        ("files.json", lambda path: path.write_text("{"), "cannot be read"),
        ("files.json", lambda path: path.write_text("{}"), "bin was added"),
    ],
)
def test_damage_is_named_by_path_and_condemned_entries_are_made_anew(
    store: Store, name: str, change: Callable[[Path], object], told: str
) -> None:
    entry = build(store)
    assert entry.damage() == []
    alter(entry.path / name, change)
    assert entry.damage()[0].startswith(told)
    condemn(entry.path)
    assert store.find("thing", "1", KEY) is None
    assert build(store).damage() == []


@pytest.mark.parametrize("text", [f"{FORMAT + 1}\n", "unreadable"])
def test_a_store_of_a_newer_kiln_is_left_alone(tmp_path: Path, text: str) -> None:
    build(Store(tmp_path / "store"))
    (tmp_path / "store/format").write_text(text)
    for path, shared in ((tmp_path / "store", []), (tmp_path / "own", [tmp_path / "store"])):
        with pytest.raises(KilnError, match=r"store: this store was written by a newer kiln .*\n  update kiln, or set"):
            Store(path, shared=shared)


@pytest.mark.parametrize("text", ["", "1\n"])
def test_a_store_of_an_older_kiln_is_taken_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/format").write_text(text)
    build(Store(tmp_path / "store"))
    assert (tmp_path / "store/format").read_text() == f"{FORMAT}\n"


def test_results_of_shared_stores_are_used_and_never_written(store: Store, tmp_path: Path) -> None:
    entry = build(store)
    before = sorted(os.fspath(path) for path in store.path.rglob("*"))
    own = Store(tmp_path / "own", shared=[tmp_path / "nowhere", store.path])
    assert own.find("thing", "1", KEY) == entry
    assert own.build("thing", "1", INPUTS, fail) == entry
    assert build(own, INPUTS | {"text": "more"}).path.parent == own.path
    assert not own.drop("thing", "1", KEY)
    assert sorted(os.fspath(path) for path in store.path.rglob("*")) == before


def test_an_entry_can_be_replaced(store: Store) -> None:
    build(store)
    entry = store.build("thing", "1", INPUTS, lambda work: {"by": "another"}, replace=True)
    assert (entry.notes, names(entry.root)) == ({"by": "another"}, [])


def test_what_an_image_reaches_is_remembered(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.roots() == {}
    build(store)
    store.remember("/one", ["thing-1"])
    store.remember("/two", [])
    store.remember("/one", ["thing-2"])
    assert store.roots() == {"/one": ["thing-2"], "/two": []}
    for path in (store.path / "roots").iterdir():
        path.write_text("{")
    assert store.roots() == {}
    assert capsys.readouterr().err.count("damaged  ") == 2


def test_a_failed_build_stays_for_a_look_until_the_next(store: Store) -> None:
    with pytest.raises(KilnError, match="no compiler"):
        store.build("thing", "1", INPUTS, fail)
    work = store.work("thing", "1", KEY).path
    assert (work / "failed").read_text() == "configure"
    assert (work / "entry/root/note").read_text() == "hello"
    assert store.find("thing", "1", KEY) is None
    build(store)
    assert not work.exists()


def test_leftovers_are_swept_but_for_failed_builds(store: Store) -> None:
    for name in ("killed", "failed"):
        (store.path / "work" / name / "entry/root").mkdir(parents=True)
        (store.path / "work" / name / "entry/root").chmod(0o555)
    (store.path / "work/failed/failed").write_text("build")
    build(store)
    assert names(store.path / "work") == ["failed"]


def test_dropping_removes_an_entry_and_a_failed_build(store: Store) -> None:
    assert not store.drop("thing", "1", KEY)
    with pytest.raises(KilnError):
        store.build("thing", "1", INPUTS, fail)
    assert store.drop("thing", "1", KEY)
    build(store)
    assert store.drop("thing", "1", KEY)
    assert names(store.path) == [".lock", "format", "work"]
    assert names(store.path / "work") == []


BUILD_SLOWLY = """
def slow(work):
    fill(work)
    print("filling", flush=True)
    input()
    return {"by": "the first"}

store.build("thing", "1", INPUTS, slow)
"""


def test_a_second_process_waits_says_so_and_takes_what_the_first_made(store: Store) -> None:
    with run(store, BUILD_SLOWLY) as first:
        assert first.stdout
        assert first.stdout.readline() == "filling\n"
        with run(store, "sys.stderr = sys.stdout" + BUILD_SLOWLY) as second:
            assert second.stdout
            assert second.stdout.readline() == f"waiting  for thing-1-{KEY[:12]}, which another process builds\n"
            assert first.communicate("\n")[0] == ""
            assert second.communicate()[0] == ""
        assert (first.returncode, second.returncode) == (0, 0)
    entry = store.find("thing", "1", KEY)
    assert entry
    assert entry.notes == {"by": "the first"}


def test_two_processes_build_side_by_side(store: Store) -> None:
    with run(store, BUILD_SLOWLY) as first:
        assert first.stdout
        assert first.stdout.readline() == "filling\n"
        other = build(store, INPUTS | {"text": "bye"})  # sweeps nothing of the first one's
        first.communicate("\n")
        assert first.returncode == 0
    assert store.find("thing", "1", KEY)
    assert other.path.exists()


def test_cleaning_up_waits_for_builds_and_says_so(store: Store) -> None:
    with run(store, BUILD_SLOWLY) as first:
        assert first.stdout
        assert first.stdout.readline() == "filling\n"
        code = "sys.stderr = sys.stdout\nwith store.alone():\n    print(bool(store.find('thing', '1', KEY)))"
        with run(store, code) as second:
            assert second.stdout
            assert second.stdout.readline() == f"waiting  for {store.path} until nobody builds in it\n"
            first.communicate("\n")
            assert second.communicate()[0] == "True\n"


def test_who_builds_can_clean_up_too(store: Store) -> None:
    build(store)
    with store.alone():
        pass
    store.release()
    with run(store, "with store.alone():\n    print('alone')") as other:
        assert other.communicate()[0] == "alone\n"
    assert store.drop("thing", "1", KEY)


def test_a_killed_build_leaves_nothing_that_is_found_and_is_swept(store: Store) -> None:
    with run(store, BUILD_SLOWLY) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "filling\n"
        killed.send_signal(signal.SIGKILL)
    assert names(store.path / "work") == [f"thing-1-{KEY[:12]}"]
    assert store.find("thing", "1", KEY) is None
    store.build("other", "1", {"name": "other"}, fill)
    assert names(store.path / "work") == []


FILL_THE_DISK = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", store.path], check=True)

def big(work):
    fill(work)
    (work.root / "big").write_bytes(bytes(2_000_000))
    return {}

try:
    store.build("big", "1", {"name": "big"}, big)
except KilnError as error:
    print(error)
print(names(store.path / "work"), bool(build(store)))
"""


@pytest.mark.sandbox
def test_a_full_disk_is_told_with_the_remedy_and_cleaned_up(store: Store) -> None:
    store.path.mkdir()
    with run(store, FILL_THE_DISK, "unshare", "-Urm") as process:
        message, hint, after = process.communicate()[0].splitlines()
    assert message.startswith(f"{store.path}: ")
    assert "No space left on device" in message
    assert "set KILN_STORE to a folder of yours on a disk with room" in hint
    assert after == "[] True"
