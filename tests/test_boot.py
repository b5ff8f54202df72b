"""The real board, as its user has it: built from real sources, booted by every road, the same bytes each time."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from kiln.graph import Graph
from kiln.settings import Settings
from kiln.stage import Stage
from kiln.vm.roads import ROADS
from kiln.vm.roots import ROOTS
from tests.console import ROOT, qemu

BOARD = "qemu-x86_64"
OUTPUT = ROOT / "output" / BOARD

pytestmark = pytest.mark.boot


def doit(*words: str, root: Path = ROOT, env: dict[str, str] | None = None) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "doit", *words],
        cwd=root,
        env=dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.fixture(scope="module", autouse=True)
def image() -> str:
    return doit("image")


def test_the_images_are_there_and_their_checksums_hold() -> None:
    rows = [line.split("  ") for line in (OUTPUT / "SHA256SUMS").read_text().splitlines()]
    listed = {name: expected for expected, name in rows}
    assert set(listed) == {
        "bzImage", "disk.img", "licenses.txt", "manifest.json", "rootfs.cpio.zst", "rootfs.ext4", "rootfs.tar.zst",
    }  # fmt: skip
    for name, expected in listed.items():
        assert hashlib.sha256((OUTPUT / name).read_bytes()).hexdigest() == expected


def test_the_images_are_small() -> None:
    assert (OUTPUT / "bzImage").stat().st_size <= 3_000_000
    assert (OUTPUT / "rootfs.cpio.zst").stat().st_size <= 5_000_000


def test_the_licenses_of_all_that_is_in_the_image_are_beside_it_and_not_in_it() -> None:
    text = (OUTPUT / "licenses.txt").read_text()
    shipped = {row["package"] for row in json.loads((OUTPUT / "manifest.json").read_text())}
    for package in (shipped - {"board", "users"}) | {"linux", "musl", "openssl", "zlib"}:
        assert re.search(rf"(?m)^{package} \S+: \S", text)
    for words in ("GNU GENERAL PUBLIC LICENSE", "Apache License", "Jean-loup Gailly", "Tatu Ylonen"):
        assert words in text
    assert "usr/share/licenses" not in (OUTPUT / "manifest.json").read_text()


def test_a_second_run_builds_nothing() -> None:
    words = {line.split()[0] for line in doit("image").splitlines() if line.strip()}
    assert words == {"cached"}


@pytest.mark.parametrize("road", [name for name in ROADS if name not in ROOTS])
def test_it_boots_and_finds_itself_whole(road: str) -> None:
    before = (OUTPUT / "disk.img").stat()
    out = doit(f"test:{road}")
    assert f"{BOARD} by {road}: all was well" in out
    log = (OUTPUT / "boot" / f"{road}.log").read_text()
    assert re.search(r"info uname=Linux \S+ 6\.1\.176 .* x86_64", log)
    assert (OUTPUT / "disk.img").stat() == before


def test_it_boots_by_a_clock_that_counts_instructions() -> None:
    assert f"{BOARD} by cpio: all was well" in doit("test:cpio", env={"KILN_ACCEL": "icount"})


@pytest.mark.parametrize("board", ["qemu-aarch64", "qemu-microvm", "qemu-riscv64"])
def test_every_other_board_boots_by_its_roads(board: str) -> None:
    out = doit("test", f"BOARD={board}")
    for road in ("cpio", "ext4"):
        assert f"{board} by {road}: all was well" in out
    files = {path.name for path in (ROOT / "output" / board).iterdir()}
    assert {"vmlinux" if board == "qemu-microvm" else "Image", "rootfs.ext4", "licenses.txt"} < files
    assert "disk.img" not in files


class Console:
    """``doit qemu`` on a terminal, and a person at its shell."""

    def __init__(self, *words: str) -> None:
        self.child = qemu(*words)
        self.child.expect("-nodefaults")
        self.child.expect("# ")

    def ask(self, command: str) -> str:
        self.child.sendline(f"{command}; echo end-$((40 + 2))")
        self.child.expect("end-42")
        text = str(self.child.before)
        self.child.expect("# ")
        return text

    def off(self) -> None:
        self.child.sendline("poweroff")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0


def test_the_console_has_a_shell_with_job_control_and_extra_parameters() -> None:
    console = Console("APPEND=kiln.word=pottery")
    assert "kiln.word=pottery" in console.ask("cat /proc/cmdline")
    assert "can't access tty" not in console.ask("tty; sleep 100 & jobs; kill %1")
    console.child.sendline("sh -c 'echo be${x}gun; exec sleep 1000'")
    console.child.expect("begun")
    console.child.sendcontrol("z")
    console.child.expect("Stopped")
    console.off()


def test_the_disk_takes_extra_parameters_and_stays_as_it_is() -> None:
    before = hashlib.sha256((OUTPUT / "disk.img").read_bytes()).hexdigest()
    console = Console("BOOT=disk", "APPEND=kiln.word=pottery")
    assert "kiln.word=pottery" in console.ask("cat /proc/cmdline")
    assert "ext4" in console.ask("grep ' / ' /proc/mounts; touch /written")
    console.off()
    assert hashlib.sha256((OUTPUT / "disk.img").read_bytes()).hexdigest() == before


def copy_to(root: Path, keep: Callable[[str], bool]) -> Path:
    """The project in another folder, with a store that has the entries of ours that ``keep`` names, and our ccache."""
    shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns("output", ".venv", ".git", ".*_cache"))
    store = root / "output/store"
    store.mkdir(parents=True)
    for path in Path(os.environ.get("KILN_STORE") or ROOT / "output/store").iterdir():
        if path.name == "ccache" or (keep(path.name) and (path / "stamp.json").exists()):
            (store / path.name).symlink_to(path)
    return root


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project in another folder, with all that was built."""
    return copy_to(tmp_path / "project", lambda name: True)


OWN = {"KILN_STORE": "", "KILN_DOWNLOADS": "", "PYTHONDONTWRITEBYTECODE": "1"}


def test_all_is_the_same_when_built_elsewhere() -> None:
    """Without KILN_SLOW the kernel, which takes minutes, is left out."""
    names = [path.parent.name for path in (ROOT / "packages").glob("*/recipe.py") if path.parent.name != "linux"]
    media = Graph.load(Settings.read(ROOT), BOARD).media.values()
    # Those that are no kernel of their own.
    images = ["rootfs", *(medium.id for medium in media if not isinstance(medium, Stage)), "image"]
    doit("media", *names)
    out = doit("repro", *names, *images, *(["linux"] if os.environ.get("KILN_SLOW") else []))
    same = {line.split()[1] for line in out.splitlines() if line.startswith("same ")}
    assert same >= {"musl:build", "busybox:configure", "busybox:build", "init:build", *images}
    assert ("linux:build" in same) == bool(os.environ.get("KILN_SLOW"))
    assert f"{len(same)} of {len(same)} results are the same" in out


@pytest.mark.skipif(not os.environ.get("KILN_SLOW"), reason="takes a minute: KILN_SLOW=1 runs it")
def test_a_kept_build_folder_takes_another_configuration(copy: Path) -> None:
    env = OWN | {"PYTHONPATH": os.fspath(copy), "KILN_KEEP_BUILD": "busybox"}
    compiled = []
    for fragment in ("CONFIG_CHVT=y\n", "# CONFIG_CHVT is not set\n"):
        file = copy / "board" / BOARD / "busybox/test.config"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(fragment)
        assert "built   busybox:build" in doit("busybox", root=copy, env=env)
        compiled.append((copy / "output/logs/busybox.log").read_text().count("\n  CC "))
    assert 0 < compiled[1] < compiled[0] / 10
    applets = {path.name for path in (copy / "output/local").glob("busybox-1*/root/**/chvt")}
    assert applets == {"chvt"}


def test_an_overlay_changes_images_alone(copy: Path) -> None:
    env = OWN | {"PYTHONPATH": os.fspath(copy)}
    doit("image", root=copy, env=env)
    note = copy / "board" / BOARD / "overlay/etc/note"
    note.parent.mkdir(parents=True)
    note.write_text("from the overlay\n")
    (note.parent / "profile").write_text("# the overlay's, not that of the package\n")
    lines = doit("image", root=copy, env=env).splitlines()
    assert {line.split()[1] for line in lines if line.startswith("built")} == {
        "rootfs",
        "cpio",
        "tar",
        "ext4",
        "disk",
        "image",
    }
    manifest = {row["path"]: row for row in json.loads((copy / "output" / BOARD / "manifest.json").read_text())}
    assert manifest["etc/note"]["package"] == manifest["etc/profile"]["package"] == f"overlay:{BOARD}"


def test_menuconfig_writes_the_difference_as_a_fragment(copy: Path) -> None:
    env = dict(os.environ) | OWN | {"PYTHONPATH": os.fspath(copy), "TERM": "linux"}
    child = pexpect.spawn(
        sys.executable, ["-m", "doit", "linux:menuconfig"], cwd=os.fspath(copy), env=env, encoding="utf-8", timeout=120
    )
    child.setwinsize(40, 120)
    child.expect("eneral setup")
    child.send("/")  # search, then jump to what was found, and switch it on
    child.expect("Enter .*CONFIG_")
    child.send("IKCONFIG\r")
    child.expect("ernel .config support")
    child.send("1")
    child.expect("ernel .config support")
    child.send("y")
    for _ in range(6):  # out of the menus, one after the other
        child.send("\x1b\x1b")
        if child.expect(["wish to save", pexpect.TIMEOUT], timeout=3) == 0:
            break
    child.send("\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    fragment = (copy / "board" / BOARD / "linux/menuconfig.config").read_text()
    assert "CONFIG_IKCONFIG=y" in fragment.splitlines()
