import os
import re
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.image import erofs
from kiln.image.manifest import CAPABILITIES, Manifest, Node, file_node, tree_nodes
from kiln.process import CommandFailed
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from tests.rootfs import ODD_NAMES, layer

pytestmark = pytest.mark.sandbox

ROOT = Path(__file__).parent.parent
UUID = "440aa176-97fa-475a-8209-d96eff4a0c90"
MIB = 1 << 20
EXTRA = [
    replace(file_node("bin/ping", b"ping" * 50000, package="p"), capabilities=("cap_net_raw",)),
    replace(file_node("bin/all", b"all", package="p"), capabilities=CAPABILITIES),
    file_node("odd/line\nbreak", b"lines", package="p"),
    Node(path="odd/link", kind="symlink", mode=0o777, target='to\n"all"', package="p"),
]
KINDS = {"file": "regular file", "dir": "directory", "symlink": "symlink file", "char": "char dev"}
KINDS |= {"block": "block dev", "fifo": "FIFO file"}


class Writer(Protocol):
    def __call__(self, manifest: Manifest, path: Path, folder: Path, label: str = "rootfs") -> Path: ...


def sample(*, backwards: bool = False) -> Manifest:
    return Manifest.merge([layer(backwards=backwards), ("p", EXTRA[::-1] if backwards else EXTRA)])


@pytest.fixture(scope="module")
def write(image_sandbox: Sandbox) -> Writer:
    """Writes a manifest to a path, with scratch in a folder, by the mkfs.erofs of this project."""
    words = [sys.executable, "-m", "doit", "erofs-utils"]
    run = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    utils = Graph.load(Settings.read(ROOT), "qemu-x86_64").result("erofs-utils").built().root

    def _write(manifest: Manifest, path: Path, folder: Path, label: str = "rootfs") -> Path:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            erofs.write(
                manifest, path, sandbox=image_sandbox, scratch=Path(scratch), utils=utils, uuid=UUID, label=label
            )
        return path

    return _write


def inspect(path: Path, checkers: Sandbox, *words: str) -> str:
    mounts = [Mount(source=path.parent, target="/work")]
    return checkers.with_mounts(mounts).run([*words, f"/work/{path.name}"]).decode()


def unpacked(path: Path, checkers: Sandbox, folder: Path) -> Path:
    mounts = [Mount(source=path.parent, target="/work"), Mount(source=folder, target="/dest", writable=True)]
    words = ["fsck.erofs", "--extract=/dest/root", "--no-preserve-owner", "--preserve-perms", f"/work/{path.name}"]
    checkers.with_mounts(mounts).run(words)
    return folder / "root"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, write: Writer) -> Path:
    folder = tmp_path_factory.mktemp("erofs")
    return write(sample(), folder / "a.erofs", folder)


def test_the_file_system_says_what_it_is(image: Path, checkers: Sandbox) -> None:
    summary = inspect(image, checkers, "dump.erofs", "-s")
    assert re.search(rf"UUID: +{UUID}\n", summary)
    assert re.search(r"Filesystem created: +Thu Jan  1 00:00:00 2026\n", summary)
    assert re.search(rf"inode count: +{len(sample().nodes) + 1}\n", summary)
    assert image.stat().st_size % 4096 == 0
    assert image.read_bytes()[1024 + 64 : 1024 + 80] == b"rootfs".ljust(16, b"\0")


def test_the_checker_finds_it_clean(image: Path, checkers: Sandbox, tmp_path: Path) -> None:
    inspect(image, checkers, "fsck.erofs", "--extract")  # which reads all data, and keeps none
    data = image.read_bytes()
    (tmp_path / "broken").write_bytes(data[: len(data) // 2])
    with pytest.raises(CommandFailed):
        inspect(tmp_path / "broken", checkers, "fsck.erofs", "--extract")


@pytest.mark.parametrize("node", sample().nodes, ids=lambda node: node.path)
def test_each_node_has_its_type_mode_owner_and_time(node: Node, image: Path, checkers: Sandbox) -> None:
    text = inspect(image, checkers, "dump.erofs", f"--path=/{node.path}")
    size = r"\d+" if node.kind == "dir" else node.size or len(node.target)
    assert re.search(rf"^Size: {size}  On-disk size: \d+  {KINDS[node.kind]}$", text, re.MULTILINE)
    assert re.search(rf"^Uid: {node.uid}   Gid: {node.gid}  Access: {node.mode & 0o777:04o}/", text, re.MULTILINE)
    assert "Timestamp: 2026-01-01 00:00:00.000000000\n" in text
    assert ("Xattr size: 0\n" in text) == (not node.xattrs)
    # What it leaves out: the other bits of the mode, and the device's number as the kernel has it.
    found = re.search(r"^NID: (\d+) ", text, re.MULTILINE)
    assert found
    inode = image.read_bytes()[int(found[1]) * 32 :][:20]
    (mode,), (number,) = struct.unpack_from("<H", inode, 4), struct.unpack_from("<I", inode, 16)
    assert mode == node.st_mode
    if node.device:
        major, minor = node.device
        assert number == minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def test_the_root_is_roots(image: Path, checkers: Sandbox) -> None:
    assert "Uid: 0   Gid: 0  Access: 0755/rwxr-xr-x\n" in inspect(image, checkers, "dump.erofs", "--path=/")


def test_capabilities_are_there_byte_by_byte(image: Path) -> None:
    for node in EXTRA[:2]:
        value = node.xattrs["security.capability"]
        # The prefix "security." has number 6.
        assert struct.pack("<BBH10s", 10, 6, len(value), b"capability") + value in image.read_bytes()


def test_files_and_links_come_back_as_they_were(write: Writer, checkers: Sandbox, tmp_path: Path) -> None:
    kept = [node for node in sample().nodes if node.kind in ("file", "symlink", "dir")]
    root = unpacked(write(Manifest(tuple(kept)), tmp_path / "a.erofs", tmp_path), checkers, tmp_path)
    assert len(kept) > len(ODD_NAMES)
    for node in kept:
        if node.kind == "file":
            assert (root / node.path).read_bytes() == node.read()
            assert (root / node.path).stat().st_mode == node.st_mode
        elif node.kind == "symlink":
            assert os.readlink(root / node.path) == node.target


def test_the_image_is_the_same_every_time(image: Path, write: Writer, tmp_path: Path) -> None:
    (tmp_path / "b.erofs").write_bytes(b"old" * MIB)
    umask = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            again = write(sample(backwards=True), tmp_path / "b.erofs", Path(memory))
    finally:
        os.umask(umask)
    assert again.read_bytes() == image.read_bytes()


def test_a_root_with_nothing_in_it(write: Writer, checkers: Sandbox, tmp_path: Path) -> None:
    path = write(Manifest(()), tmp_path / "a.erofs", tmp_path)
    assert list(unpacked(path, checkers, tmp_path).iterdir()) == []


def test_big_files_are_compressed_and_come_back(write: Writer, checkers: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/holes").open("wb") as file:
        file.write(b"start")
        file.seek(64 * MIB)
        file.write(b"end")
    (tmp_path / "tree/noise").write_bytes(os.urandom(3 * MIB + 7))
    manifest = Manifest.merge([("p", tree_nodes(tmp_path / "tree", "p"))])
    path = write(manifest, tmp_path / "a.erofs", tmp_path)
    assert path.stat().st_size < 4 * MIB
    root = unpacked(path, checkers, tmp_path)
    for node in manifest.nodes:
        assert (root / node.path).read_bytes() == node.read()


def test_a_label_that_is_too_long_is_refused(write: Writer, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"a.erofs: the label 'sixteen bytes, \.' is too long\n.*15 bytes"):
        write(Manifest(()), tmp_path / "a.erofs", tmp_path, "sixteen bytes, .")
