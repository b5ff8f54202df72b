import os
import stat
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import cpio
from kiln.image.manifest import Manifest, Node
from kiln.sandbox import Sandbox
from kiln.trees import EPOCH
from tests.rootfs import ODD_NAMES, sample

FIELDS = ("ino", "mode", "uid", "gid", "nlink", "mtime", "size", "major", "minor", "rmajor", "rminor", "namesize")


def read(data: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    """Names, header fields and bytes, as the kernel's documentation of the format has them."""
    found, place = [], 0
    while place < len(data) and data[place : place + 6] == b"070701":
        numbers = [int(data[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        fields = dict(zip(FIELDS, numbers[:12], strict=True))
        name = data[place + 110 : place + 110 + fields["namesize"]]
        assert name.endswith(b"\0") and numbers[12] == 0
        start = -(-(place + 110 + fields["namesize"]) // 4) * 4
        found.append((name[:-1].decode(), fields, data[start : start + fields["size"]]))
        place = -(-(start + fields["size"]) // 4) * 4
    assert not data[place:].strip(b"\0")
    return found


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    cpio.write(sample(), tmp_path / "a.cpio")
    return (tmp_path / "a.cpio").read_bytes()


def test_every_node_is_there_with_its_mode_owner_and_bytes(archive: bytes) -> None:
    manifest = sample()
    records = read(archive)
    assert [name for name, _, _ in records] == [".", *(node.path for node in manifest.nodes), "TRAILER!!!"]
    assert (records[0][1]["mode"], records[0][1]["uid"]) == (stat.S_IFDIR | 0o755, 0)
    for node, (_, fields, data) in zip(manifest.nodes, records[1:], strict=False):
        assert stat.S_IMODE(fields["mode"]) == node.mode
        assert (fields["uid"], fields["gid"], fields["mtime"]) == (node.uid, node.gid, EPOCH)
        assert data == (node.read() if node.kind == "file" else node.target.encode())
    entries = {name: fields for name, fields, _ in records}
    assert entries["bin/su"]["mode"] == stat.S_IFREG | 0o4755
    assert stat.S_ISCHR(entries["dev/null"]["mode"]) and stat.S_ISFIFO(entries["run/a pipe"]["mode"])
    assert (entries["dev/sda"]["rmajor"], entries["dev/sda"]["rminor"]) == (259, 300)
    assert stat.S_ISBLK(entries["dev/sda"]["mode"]) and stat.S_ISLNK(entries["bin/sh"]["mode"])


def test_inodes_count_up_and_links_are_right(archive: bytes) -> None:
    *records, _ = read(archive)
    assert [fields["ino"] for _, fields, _ in records] == list(range(1, len(records) + 1))
    links = {name: fields["nlink"] for name, fields, _ in records}
    assert links["."] == 2 + sum(node.kind == "dir" and "/" not in node.path for node in sample().nodes)
    assert (links["bin/su"], links["tmp"], links["home"], links["odd"]) == (1, 2, 3, 2 + len(ODD_NAMES))


def test_the_archive_is_whole_blocks_and_the_same_every_time(archive: bytes, tmp_path: Path) -> None:
    assert len(archive) % 512 == 0
    umask = os.umask(0o077)
    try:
        cpio.write(sample(backwards=True), tmp_path / "b.cpio")
    finally:
        os.umask(umask)
    assert (tmp_path / "b.cpio").read_bytes() == archive


def test_a_file_of_4_gib_is_refused(tmp_path: Path) -> None:
    big = Node(path="big", kind="file", mode=0o644, content=tmp_path / "big", size=1 << 32, package="data")
    with pytest.raises(KilnError, match="data: /big is too big"):
        cpio.write(Manifest((big,)), tmp_path / "a.cpio")


@pytest.mark.sandbox
def test_gnu_cpio_reads_it(archive: bytes, image_sandbox: Sandbox) -> None:
    lines = image_sandbox.run(["cpio", "-itv", "--quiet", "--numeric-uid-gid"], input=archive).decode().splitlines()
    assert len(lines) == 1 + len(sample().nodes)
    listing = {line.split("2026 ")[1]: line.split() for line in lines}
    assert listing["bin/su"][0] == "-rwsr-xr-x"
    assert listing["bin/sh -> su"][0] == "lrwxrwxrwx"
    assert listing["tmp"][0] == "drwxrwxrwt"
    assert listing["home/kim"][:4] == ["drwx------", "2", "100000", "70000"]
    assert listing["dev/sda"][0] == "brw-rw----" and listing["dev/sda"][4:6] == ["259,", "300"]
