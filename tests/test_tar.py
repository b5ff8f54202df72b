import os
import tarfile
from pathlib import Path

from kiln.image import tar
from kiln.trees import EPOCH
from tests.rootfs import sample

TYPES = {"file": "0", "symlink": "2", "char": "3", "block": "4", "dir": "5", "fifo": "6"}


def test_every_node_is_there_with_its_mode_owner_and_bytes(tmp_path: Path) -> None:
    manifest = sample()
    tar.write(manifest, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [node.path for node in manifest.nodes]
        for node, member in zip(manifest.nodes, members, strict=True):
            assert member.type.decode() == TYPES[node.kind]
            assert (member.mode, member.uid, member.gid) == (node.mode, node.uid, node.gid)
            assert (member.mtime, member.uname, member.gname) == (EPOCH, "", "")
            assert member.linkname == node.target
            if node.kind == "file":
                content = archive.extractfile(member)
                assert content and content.read() == node.read()
            if node.device:
                assert (member.devmajor, member.devminor) == node.device


def test_the_archive_is_the_same_every_time(tmp_path: Path) -> None:
    tar.write(sample(), tmp_path / "a.tar")
    umask = os.umask(0o077)
    try:
        tar.write(sample(backwards=True), tmp_path / "b.tar")
    finally:
        os.umask(umask)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
