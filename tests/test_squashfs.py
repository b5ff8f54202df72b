import os
import re
import stat
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.image import squashfs
from kiln.image.manifest import CAPABILITIES, Manifest, Node, file_node, tree_nodes
from kiln.sandbox import Mount, Sandbox
from tests.rootfs import layer

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
EXTRA = [
    replace(file_node("bin/ping", b"ping" * 50000, package="p"), capabilities=("cap_net_raw",)),
    replace(file_node("bin/all", b"all", package="p"), capabilities=CAPABILITIES),
    file_node("odd/line\nbreak", b"lines", package="p"),
    Node(path="odd/link", kind="symlink", mode=0o777, target='to\n"all"', package="p"),
]


def sample(*, backwards: bool = False) -> Manifest:
    return Manifest.merge([layer(backwards=backwards), ("p", EXTRA[::-1] if backwards else EXTRA)])


def write(manifest: Manifest, path: Path, sandbox: Sandbox, scratch: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        squashfs.write(manifest, path, sandbox=sandbox, scratch=Path(folder))
    return path


def inspect(path: Path, checkers: Sandbox, *words: str) -> str:
    mounts = [Mount(source=path.parent, target="/work")]
    return checkers.with_mounts(mounts).run([*words, f"/work/{path.name}"]).decode()


def unpacked(path: Path, checkers: Sandbox, folder: Path) -> tuple[Path, str]:
    """The folder that unsquashfs unpacks, and what it says of all that only root could do."""
    mounts = [Mount(source=path.parent, target="/work"), Mount(source=folder, target="/dest", writable=True)]
    words = f"unsquashfs -quiet -no-progress -ignore-errors -no-exit-code -dest /dest/root /work/{path.name} 2>&1"
    return folder / "root", checkers.with_mounts(mounts).run(["bash", "-c", words]).decode()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, image_sandbox: Sandbox) -> Path:
    folder = tmp_path_factory.mktemp("squashfs")
    return write(sample(), folder / "a.squashfs", image_sandbox, folder)


def test_the_file_system_says_what_it_is(image: Path, checkers: Sandbox) -> None:
    summary = inspect(image, checkers, "unsquashfs", "-stat")
    assert "Found a valid SQUASHFS 4:0 superblock" in summary
    assert "Creation or last append time Thu Jan  1 00:00:00 2026" in summary
    assert "Compression zstd" in summary
    assert "Number of xattr ids 2" in summary
    assert image.stat().st_size % 4096 == 0


def row(node: Node) -> str:
    """What unsquashfs says of a node in a list with numbers, but for the size of a folder."""
    size = "" if node.kind == "dir" else f" {node.size or len(node.target)}"
    if node.device:
        # It takes all but the lowest eight bits, as the kernel has them, for the major number.
        major, minor = node.device
        number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
        size = f" {number >> 8},{number & 0xFF:3d}"
    link = f" -> {node.target}" if node.target else ""
    return f"{stat.filemode(node.st_mode)} {node.uid}/{node.gid}{size} 2026-01-01 00:00 root/{node.path}{link}\n"


def lines(text: str) -> list[str]:
    return sorted(re.sub(" +", " ", text).split("\n"))


def test_each_node_has_its_type_mode_owner_time_and_size(image: Path, checkers: Sandbox) -> None:
    listed = inspect(image, checkers, "unsquashfs", "-lln", "-dest", "root")
    listed = re.sub(r"(?m)^(d\S+ \S+) +\d+", r"\1", listed)
    root = "drwxr-xr-x 0/0 2026-01-01 00:00 root\n"
    assert lines(listed) == lines(root + "".join(map(row, sample().nodes)))


def test_files_come_back_as_they_were(image: Path, checkers: Sandbox, tmp_path: Path) -> None:
    root, said = unpacked(image, checkers, tmp_path)
    for node in sample().nodes:
        if node.kind == "file":
            assert (root / node.path).read_bytes() == node.read()
    # Nobody but root may give a file capabilities.
    capable = re.findall("failed to write xattr security.capability for file /dest/root/(.*) because", said)
    assert sorted(capable) == ["bin/all", "bin/ping"]


def test_capabilities_are_there_byte_by_byte(image: Path, checkers: Sandbox) -> None:
    data = image.read_bytes()
    # Where the superblock says that the table of extended attributes is, and there what it begins with.
    (table,) = struct.unpack_from("<Q", data, 56)
    (start,) = struct.unpack_from("<Q", data, table)
    (size,) = struct.unpack_from("<H", data, start)
    block = data[start + 2 : start + 2 + (size & 0x7FFF)]
    if not size & 0x8000:
        block = checkers.run(["zstd", "-dc"], input=block)
    for node in EXTRA[:2]:
        value = node.xattrs["security.capability"]
        assert struct.pack("<HH10sI", 2, 10, b"capability", len(value)) + value in block


def test_the_image_is_the_same_every_time(image: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "b.squashfs").write_bytes(b"old" * MIB)
    umask = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            again = write(sample(backwards=True), tmp_path / "b.squashfs", image_sandbox, Path(memory))
    finally:
        os.umask(umask)
    assert again.read_bytes() == image.read_bytes()


def test_a_root_with_nothing_in_it(image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path) -> None:
    path = write(Manifest(()), tmp_path / "a.squashfs", image_sandbox, tmp_path)
    assert path.stat().st_size == 4096
    listed = inspect(path, checkers, "unsquashfs", "-lln", "-dest", "root")
    assert re.fullmatch(r"drwxr-xr-x 0/0 +\d+ 2026-01-01 00:00 root\n", listed)


def test_a_big_file_of_holes_takes_no_room(image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/big").open("wb") as file:
        file.write(b"start")
        file.seek(64 * MIB)
        file.write(b"end")
    manifest = Manifest.merge([("p", tree_nodes(tmp_path / "tree", "p"))])
    path = write(manifest, tmp_path / "a.squashfs", image_sandbox, tmp_path)
    assert path.stat().st_size <= 16384
    assert (unpacked(path, checkers, tmp_path)[0] / "big").read_bytes() == manifest.nodes[0].read()
