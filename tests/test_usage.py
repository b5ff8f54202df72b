"""How much room things take in a store."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kiln.report.size import human
from kiln.report.usage import Row, measure, render
from kiln.store import Store, Work
from kiln.trees import remove

NOBODY = 65534


def result(store: Store, name: str, version: str, *, size: int) -> Path:
    def fill(work: Work) -> dict[str, object]:
        (work.root / "deep/er").mkdir(parents=True)
        (work.root / "deep/er/file").write_bytes(os.urandom(size))
        (work.root / "link").symlink_to("deep")
        return {}

    return store.build(name, version, {"name": name, "version": version, "size": size}, fill).path


def du(path: Path) -> int:
    """What another program says."""
    return int(subprocess.check_output(["du", "-s", "--block-size=1", path], text=True).split()[0])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    result(store, "musl", "1.2.5", size=40_000)
    result(store, "musl", "1.2.6", size=50_000)
    result(store, "musl", "1.2.6", size=60_000)
    result(store, "linux", "6.1", size=900_000)
    return store


def test_results_by_name_biggest_first(store: Store) -> None:
    usage = measure(store.path)
    assert [(row.name, row.count, row.versions) for row in usage.results] == [
        ("linux", 1, ("6.1",)),
        ("musl", 3, ("1.2.5", "1.2.6")),
    ]
    assert usage.results[0].size == du(next(store.path.glob("linux-*")))
    assert usage.total == du(store.path)
    assert usage.unread == 0
    assert usage.free > 0


def test_the_rest_of_a_store(store: Store) -> None:
    for name, size in (("work/a-1-0/failed", 3), ("work/b-1-0/entry/log", 10), ("work/c-1-0/x", 10), ("ccache/0", 90)):
        path = store.path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(size * 10_000))
    usage = measure(store.path)
    assert [(row.name, row.count) for row in usage.rest][:3] == [("ccache", 0), ("running", 2), ("failed", 1)]
    assert usage.rest[0].size == du(store.path / "ccache")
    assert usage.total == du(store.path)


def test_a_file_with_two_names_counts_once(store: Store) -> None:
    place = result(store, "zlib", "1", size=10)
    first = next(store.path.glob("linux-*/root/deep/er/file"))
    os.chmod(place / "root", 0o755)
    os.link(first, place / "root/same")
    usage = measure(store.path)
    assert usage.total == du(store.path)
    sizes = {row.name: row.size for row in usage.results}
    assert sizes["linux"] > 900_000 > sizes["zlib"]


@pytest.mark.parametrize(
    "stamp", [b"{", b"\0\xff", b"[]", b'{"inputs": {}}', b'{"inputs": null}', b"[" * 100_000, None]
)
def test_a_damaged_stamp(store: Store, stamp: bytes | None) -> None:
    file = next(store.path.glob("linux-*/stamp.json"))
    file.unlink() if stamp is None else file.write_bytes(stamp)
    usage = measure(store.path)
    assert [row.name for row in usage.results] == ["musl"]
    assert Row(name="damaged", count=1, size=du(file.parent), versions=()) in usage.rest


def test_a_link_to_another_store_takes_no_room_here(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    place = result(store, "borrowed", "1", size=10)
    shutil.move(place, tmp_path / place.name)
    place.symlink_to(tmp_path / place.name)
    assert "borrowed" not in [row.name for row in measure(store.path).results]
    assert measure(store.path).total == du(store.path)
    assert measure(other.path).results == ()


def test_no_store_yet(tmp_path: Path) -> None:
    usage = measure(tmp_path / "no/store")
    assert usage.total == 0
    assert list(render(usage))[-1].startswith("total")


def test_what_others_remove_meanwhile(tmp_path: Path) -> None:
    store, stop = Store(tmp_path / "store"), threading.Event()
    result(store, "kept", "1", size=10)
    places = [result(store, "gone", str(number), size=number) for number in range(20)]
    copies = [(place, shutil.copytree(place, tmp_path / f"copies/{place.name}", symlinks=True)) for place in places]

    def churn() -> None:
        while not stop.is_set():
            for place, copy in copies:
                remove(place)
                shutil.copytree(copy, place, symlinks=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        counts = [sum(row.count for row in measure(store.path).results if row.name == "kept") for _ in range(100)]
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join()
    assert counts == [1] * 100


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may look into everything, so be somebody else for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_folders_that_nobody_may_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.path)
    whole = measure(Path()).total
    Path("work/a-1-0").mkdir(parents=True)
    closed = [next(Path().glob("linux-*/root/deep")), next(Path().glob("musl-1.2.5-*")), Path("work/a-1-0")]
    for path in closed:
        path.chmod(0)
    try:
        with unprivileged():
            usage = measure(Path())
    finally:
        for path in closed:
            path.chmod(0o755)
    assert 0 < usage.total < whole - 900_000
    assert {row.name: row.count for row in usage.results} == {"linux": 1, "musl": 2}
    assert "3 places could not be looked into; what they hold is not counted" in render(usage)


def test_a_store_that_nobody_may_enter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.path.parent)
    store.path.parent.chmod(0o755)
    for mode in (0o444, 0o000):
        store.path.chmod(mode)
        try:
            with unprivileged():
                usage = measure(Path("store"))
        finally:
            store.path.chmod(0o755)
        assert usage.results == ()
        assert usage.unread > 0
        assert list(render(usage))[-2].startswith("total")


def test_the_table(store: Store) -> None:
    for number in range(7):
        result(store, "many", str(number), size=1)
    lines = list(render(measure(store.path)))
    assert [line.split()[0] for line in lines] == ["linux", "musl", "many", "other", "total"]
    assert lines[1].endswith("  1.2.5, 1.2.6")
    assert lines[2].endswith("  0, 1, 2, 3, 4 and 2 more")
    assert lines[-1].split()[1] == "11"
    assert len({line.index("B  ") for line in lines}) == 1


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
        (12_340_000, "12.3 MB"), (4_700_000_000, "4.7 GB"), (5 * 10**15, "5000.0 TB"),
    ],
)  # fmt: skip
def test_sizes_as_people_read_them(size: int, said: str) -> None:
    assert human(size) == said
