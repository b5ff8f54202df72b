"""Builds whose disk is full, read-only or rotten."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.faults import built, leftovers, link_tools, mounted, phases, plant, results, sums, told
from tests.project import Project

Images: TypeAlias = tuple[dict[str, str], dict[str, str]]

pytestmark = pytest.mark.sandbox


@pytest.fixture
def env(real_project: Project, tmp_path: Path) -> dict[str, str]:
    return plant(real_project, tmp_path / "sources")


@pytest.fixture
def expected(real_project: Project, env: dict[str, str], tmp_path: Path) -> Callable[[], Images]:
    """The images and results of the project as it is, made in another store that nothing disturbs."""

    def _expected() -> Images:
        store = link_tools(real_project, tmp_path / "undisturbed")
        built(real_project.doit("image", env=env | {"KILN_STORE": os.fspath(store)}))
        return sums(real_project), results(store)

    return _expected


def is_full(out: str, place: Path) -> bool:
    """Whether a message says what happened, where, and what to do."""
    return f"the disk of {place} is full" in out and "KILN_STORE" in out


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("head -c 4000000 /dev/zero > /dest/big", id="the result"),
        pytest.param("touch /dest/a; head -c 4000000 /dev/zero > big", id="the build folder"),
        pytest.param("touch /dest/a; head -c 4000000 /dev/zero > big || true", id="what comes after the build"),
        pytest.param("touch /dest/a; seq 500000", id="the log"),
    ],
)
def test_a_build_on_a_full_disk(real_project: Project, tmp_path: Path, script: str) -> None:
    store = tmp_path / "small"
    store.mkdir()
    env = {"KILN_STORE": os.fspath(store), "KILN_CCACHE": "0"}
    real_project.recipe("small", phases=phases(install="echo small > /dest/small"))
    real_project.recipe("big", phases=phases(install=script))
    with mounted(store, "-t", "tmpfs", "-o", "size=2m", "none") as disk:
        link_tools(real_project, disk.seen())
        built(disk.doit(real_project, "small", env=env))
        before = disk.free()
        for _ in range(2):
            assert is_full(told(disk.doit(real_project, "big", env=env)), store)
            assert leftovers(real_project, disk.seen()) == []
            assert disk.free() == before
        disk.remount("size=64m")
        assert built(disk.doit(real_project, "big", env=env)) == ["big:build"]
        made = results(disk.seen())
    built(real_project.doit("small", "big"))
    assert made == results(real_project.store)


@pytest.mark.parametrize("part", ["rootfs", "cpio", "tar", "ext4", "disk", "image"])
def test_an_image_on_a_full_disk(
    real_project: Project, env: dict[str, str], tmp_path: Path, part: str, expected: Callable[[], Images]
) -> None:
    real_project.recipe("data", phases=phases(install="gzip -cn /usr/bin/bash > /dest/data"))
    store = tmp_path / "small"
    store.mkdir()
    env |= {"KILN_STORE": os.fspath(store), "KILN_CCACHE": "0"}
    before = {"rootfs": ["app", "graft", "data", "notes"], "disk": ["ext4"], "image": ["cpio", "tar", "disk"]}
    with mounted(store, "-t", "tmpfs", "-o", "size=64m", "none") as disk:
        link_tools(real_project, disk.seen())
        built(disk.doit(real_project, "linux", *before.get(part, ["rootfs"]), env=env))
        free, ballast, failures = disk.free(), disk.seen(store / ".ballast"), 0
        # Room for ever more, so that each step of a writer finds the disk full.
        for room in (2 << number for number in range(12, 25)):
            ballast.write_bytes(bytes(free - room))
            run = disk.doit(real_project, part, env=env)
            ballast.unlink()
            if run.returncode == 0:
                break
            assert is_full(told(run), store), told(run)
            assert leftovers(real_project, disk.seen()) == []
            assert disk.free() > free - 65536
            failures += 1
        assert failures
        built(disk.doit(real_project, "image", env=env))
        found = results(disk.seen())
    assert found == expected()[1]


def flip(path: Path) -> None:
    """Alter one bit of a file, and nothing else that could tell of it."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def delete(path: Path) -> None:
    """Remove a file, and nothing else that could tell of it."""
    folder = path.parent.stat()
    path.parent.chmod(0o755)
    path.unlink()
    path.parent.chmod(stat.S_IMODE(folder.st_mode))
    os.utime(path.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def edit(project: Project, file: str, old: str, new: str) -> None:
    text = (project.root / file).read_text()
    assert old in text
    (project.root / file).write_text(text.replace(old, new))


MENU = ("board/common/extlinux.conf", "DEFAULT linux", "DEFAULT linux\nTIMEOUT 7")
HOST = ("configs/test.toml", "arch =", "hostname = 'other'\narch =")


@pytest.mark.parametrize("damage", [flip, delete])
@pytest.mark.parametrize(
    ("entry", "file", "change", "target"),
    [
        ("data", "usr/share/data", HOST, "rootfs"),
        ("data", "usr/share/data", None, "cpio"),
        ("graft", "etc/sub/more.txt", None, "ext4"),
        ("seed", "include/seed.h", ("packages/lib/recipe.py", "cat config.h", "cat config.h config.h"), "lib:build"),
        ("lib", "lib/lib.a", ("packages/app/recipe.py", "seq 9", "seq 8"), "app:build"),
        ("tool", "bin/sum", ("packages/app/recipe.py", "seq 9", "seq 8"), "app:build"),
        ("seed-patched", "seed.h", ("packages/seed/recipe.py", "cp seed.h", "cp -p seed.h"), "seed:build"),
        ("seed-source", "seed.h", ("packages/seed/patches/1.patch", "SEED 2", "SEED 3"), "seed:patch"),
        ("linux", "boot/bzImage", MENU, "disk"),
        ("test-ext4", "rootfs.ext4", MENU, "disk"),
    ],
)  # fmt: skip
def test_damage_in_the_store_goes_no_further(
    real_project: Project, env: dict[str, str], damage: Callable[[Path], None], entry: str, file: str,
    change: tuple[str, str, str] | None, target: str, expected: Callable[[], Images],
) -> None:  # fmt: skip
    built(real_project.doit("image", env=env))
    (place,) = real_project.store.glob(f"{entry}-1-*")
    damage(place / "root" / file)
    if change:
        edit(real_project, *change)
    else:
        assert "removed" in real_project.doit("clean", target, env=env).stdout
    out = told(real_project.doit("image", env=env))
    assert entry.partition("-")[0] in out
    assert place.name in out
    assert file in out
    built(real_project.doit("image", env=env))
    images, found = sums(real_project), results(real_project.store)
    sums_expected, whole = expected()
    assert images == sums_expected
    assert whole.items() <= found.items()


def test_a_read_only_store_serves_what_it_has(real_project: Project, env: dict[str, str], tmp_path: Path) -> None:
    store = link_tools(real_project, tmp_path / "store")
    env |= {"KILN_STORE": os.fspath(store)}
    built(real_project.doit("image", env=env))
    with mounted(store, "--bind", os.fspath(store)) as disk:
        disk.remount("bind,ro")
        for _ in range(2):
            assert built(disk.doit(real_project, "image", env=env)) == []
            for link in (real_project.root / "output/test").iterdir():
                link.unlink()
            assert built(disk.doit(real_project, "image", env=env)) == []
            assert sums(real_project)
        edit(real_project, "packages/notes/recipe.py", "echo notes", "echo more")
        out = told(disk.doit(real_project, "image", env=env))
        assert "FAILED  notes:build" in out
        assert "Read-only file system" in out
        assert os.fspath(store) in out
        assert "KILN_STORE" in out
    assert built(real_project.doit("notes", env=env)) == ["notes:build"]


def test_a_shared_store_is_read_and_never_written(real_project: Project, env: dict[str, str], tmp_path: Path) -> None:
    shared, own = link_tools(real_project, tmp_path / "shared"), tmp_path / "own"
    built(real_project.doit("image", env=env | {"KILN_STORE": os.fspath(shared)}))
    images = sums(real_project)
    for link in (real_project.root / "output/test").iterdir():
        link.unlink()
    before = _state(shared)
    env |= {"KILN_SHARED": f"{tmp_path / 'none'}:{shared}", "KILN_STORE": os.fspath(own)}
    with mounted(shared, "--bind", os.fspath(shared)) as disk:
        disk.remount("bind,ro")
        for _ in range(2):
            assert built(disk.doit(real_project, "image", env=env)) == []
            assert sums(real_project) == images
        edit(real_project, "packages/notes/recipe.py", "echo notes", "echo more")
        made = built(disk.doit(real_project, "image", env=env))
        assert set(made) == {"notes:build", "rootfs", "cpio", "tar", "ext4", "disk", "image"}
        # What is shared may rot as well.
        (place,) = shared.glob("data-1-*")
        flip(place / "root/usr/share/data")
        edit(real_project, "packages/notes/recipe.py", "echo more", "echo less")
        out = told(disk.doit(real_project, "image", env=env))
        assert "usr/share/data" in out
        assert "KILN_SHARED" in out
        flip(place / "root/usr/share/data")
    built(real_project.doit("image", env=env))
    assert _state(shared) == before


def _state(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would tell of a write below a folder."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        info = path.lstat()
        found[os.fspath(path)] = (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_nlink)
    return found


def test_a_full_output_folder_costs_no_result(real_project: Project, tmp_path: Path) -> None:
    env = {"KILN_STORE": os.fspath(link_tools(real_project, tmp_path / "store"))}
    real_project.recipe("chatty", phases=phases(install="seq 100000; touch /dest/done"))
    output = real_project.root / "output"
    with mounted(output, "-t", "tmpfs", "-o", "size=64k", "none") as disk:
        run = disk.doit(real_project, "chatty", env=env)
    assert built(run) == ["chatty:build"]
    assert f"{output}/logs/chatty.log cannot be written: No space left on device" in run.stderr
    assert built(real_project.doit("chatty", env=env)) == []


def test_an_output_folder_that_cannot_be_written_is_named(
    real_project: Project, env: dict[str, str], tmp_path: Path
) -> None:
    env |= {"KILN_STORE": os.fspath(link_tools(real_project, tmp_path / "store"))}
    env |= {"KILN_DOWNLOADS": os.fspath(tmp_path / "downloads")}
    built(real_project.doit("image", env=env))
    output = real_project.root / "output"
    with mounted(output, "-t", "tmpfs", "-o", "ro", "none") as disk:
        out = told(disk.doit(real_project, "image", env=env))
    assert f"{output}/test: Read-only file system" in out
    assert "KILN_STORE" not in out
