"""The real board, as its user has it: built from real sources, booted by every road, the same bytes each time."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parent.parent
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
    assert set(listed) == {"bzImage", "disk.img", "manifest.json", "rootfs.cpio.zst", "rootfs.ext4", "rootfs.tar.zst"}
    for name, expected in listed.items():
        assert hashlib.sha256((OUTPUT / name).read_bytes()).hexdigest() == expected


def test_the_images_are_small() -> None:
    assert (OUTPUT / "bzImage").stat().st_size <= 3_000_000
    assert (OUTPUT / "rootfs.cpio.zst").stat().st_size <= 2_000_000


def test_a_second_run_builds_nothing() -> None:
    words = {line.split()[0] for line in doit("image").splitlines() if line.strip()}
    assert words == {"cached"}


@pytest.mark.parametrize("road", ["cpio", "ext4", "disk"])
def test_it_boots_and_finds_itself_whole(road: str) -> None:
    before = (OUTPUT / "disk.img").stat()
    out = doit(f"test:{road}")
    assert f"{BOARD} by {road}: all was well" in out
    log = (OUTPUT / "boot" / f"{road}.log").read_text()
    assert "Linux version 6.1.176" in log
    assert (OUTPUT / "disk.img").stat() == before


class Console:
    """``doit qemu`` on a terminal, and a person at its shell."""

    def __init__(self, *words: str) -> None:
        self.child = pexpect.spawn(
            sys.executable, ["-m", "doit", "qemu", *words], cwd=os.fspath(ROOT), encoding="utf-8", timeout=90
        )
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
    console.child.sendline("sleep 1000")
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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project in another folder, with a store of its own that has the tools and sources, but nothing built."""
    root = tmp_path / "elsewhere" / "project"
    shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns("output", ".venv", ".git", ".*_cache"))
    store = root / "output/store"
    store.mkdir(parents=True)
    slow = os.environ.get("KILN_SLOW")
    for path in Path(os.environ.get("KILN_STORE") or ROOT / "output/store").iterdir():
        keep = (
            path.name.startswith("tools-") or "-source-" in path.name or (not slow and path.name.startswith("linux-6"))
        )
        if keep and (path / "stamp.json").exists():
            (store / path.name).symlink_to(path)
    return root


OWN = {"KILN_STORE": "", "KILN_DOWNLOADS": "", "PYTHONDONTWRITEBYTECODE": "1"}


def test_another_folder_user_and_umask_give_the_same_bytes(copy: Path) -> None:
    """With KILN_SLOW set the kernel is built again too, which takes minutes."""
    other = {
        "PYTHONPATH": os.fspath(copy),
        "TZ": "Asia/Tokyo",
        "LANG": "de_DE.UTF-8",
        "HOME": "/nonexistent",
        "KILN_JOBS": "1",
    }
    run = subprocess.run(
        ["unshare", "--user", "--map-user=4321", "--map-group=4321", sys.executable, "-m", "doit", "image"],
        cwd=copy,
        env=dict(os.environ) | OWN | other,
        capture_output=True,
        text=True,
        umask=0o077,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "built   busybox:build" in run.stdout
    assert (copy / "output" / BOARD / "SHA256SUMS").read_text() == (OUTPUT / "SHA256SUMS").read_text()


def test_an_overlay_changes_images_alone(copy: Path) -> None:
    env = OWN | {"PYTHONPATH": os.fspath(copy)}
    doit("image", root=copy, env=env)
    note = copy / "board" / BOARD / "overlay/etc/note"
    note.parent.mkdir(parents=True)
    note.write_text("from the overlay\n")
    lines = doit("image", root=copy, env=env).splitlines()
    assert {line.split()[1] for line in lines if line.startswith("built")} == {
        "rootfs",
        "cpio",
        "tar",
        "ext4",
        "disk",
        "image",
    }
    assert '"path":"etc/note"' in (copy / "output" / BOARD / "manifest.json").read_text()


def test_menuconfig_writes_the_difference_as_a_fragment(copy: Path) -> None:
    env = dict(os.environ) | OWN | {"PYTHONPATH": os.fspath(copy), "TERM": "linux"}
    child = pexpect.spawn(
        sys.executable, ["-m", "doit", "linux:menuconfig"], cwd=os.fspath(copy), env=env, encoding="utf-8", timeout=120
    )
    child.setwinsize(40, 120)
    child.expect("General setup")
    child.send("/")  # search, then jump to what was found, and switch it on
    child.expect("Search")
    child.send("IKCONFIG\r")
    child.expect("Kernel .config support")
    child.send("1")
    child.expect("Kernel .config support")
    child.send("y")
    child.send("\x1b\x1b")
    child.expect("General setup")
    child.send("\x1b\x1b")
    child.expect("Do you wish to save")
    child.send("\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    fragment = (copy / "board" / BOARD / "linux/menuconfig.config").read_text()
    assert "CONFIG_IKCONFIG=y" in fragment.splitlines()
