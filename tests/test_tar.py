import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.image import tar
from kiln.image.manifest import Manifest, file_node
from kiln.sandbox import Mount
from kiln.tools import Tools
from kiln.trees import EPOCH
from tests.rootfs import layer, sample

TYPES = {"file": "0", "symlink": "2", "char": "3", "block": "4", "dir": "5", "fifo": "6"}


def test_every_node_is_there_with_its_mode_owner_and_bytes(tmp_path: Path) -> None:
    manifest = sample()
    tar.write(manifest, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        root, *members = archive.getmembers()
        assert (root.name, root.type, root.mode, root.uid, root.gid) == (".", b"5", 0o755, 0, 0)
        assert root.mtime == EPOCH
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


CAPABLE = [
    replace(file_node("bin/ping", b"", package="p"), capabilities=("cap_net_raw",)),
    # Bytes that are no UTF-8, and a name that needs a header of its own.
    replace(file_node("x" * 120, b"", package="p"), capabilities=("cap_setuid", "cap_bpf")),
]


def test_capabilities_are_there_byte_by_byte(tmp_path: Path) -> None:
    tar.write(Manifest.merge([layer(), ("p", CAPABLE)]), tmp_path / "a.tar")
    found: dict[str, bytes] = {}
    with tarfile.open(tmp_path / "a.tar") as archive:
        for member in archive.getmembers():
            value = member.pax_headers.get("SCHILY.xattr.security.capability")
            found |= {member.name: value.encode("utf-8", "surrogateescape")} if value else {}
    assert found == {node.path: node.xattrs["security.capability"] for node in CAPABLE}


@pytest.mark.sandbox
def test_gnu_tar_reads_it(tmp_path: Path, tools: Tools) -> None:
    if not tools["checkers"].entry():
        tools["checkers"].build()
    lines = file_node("line\nbreak", b"", package="p")
    tar.write(Manifest.merge([layer(), ("p", [*CAPABLE, lines])]), tmp_path / "a.tar")
    sandbox = tools.sandbox("checkers").with_mounts([Mount(source=tmp_path, target="/work")])
    words = ["tar", "--xattrs", "--xattrs-include=*", "--quoting-style=escape", "--full-time", "-tvvf", "/work/a.tar"]
    rows = [line.split(maxsplit=5) for line in sandbox.run(words).decode().splitlines()]
    listed = {row[5]: (row[0], row[1], row[2], f"{row[3]} {row[4]}") for row in rows if len(row) == 6}
    time = "2026-01-01 00:00:00"
    assert listed["./"] == ("drwxr-xr-x", "0/0", "0", time)
    assert listed["bin/su"] == ("-rwsr-xr-x", "0/0", "9004", time)
    assert listed["dev/sda"] == ("brw-rw----", "0/6", "259,300", time)
    assert listed["home/kim/"] == ("drwx------", "100000/70000", "0", time)
    assert listed["run/a pipe"] == ("prw--w----", "7/0", "0", time)
    assert listed["line\\nbreak"] == ("-rw-r--r--", "0/0", "0", time)
    assert listed["bin/ping"][0] == listed["x" * 120][0] == "-rw-r--r--*"
    assert rows.count(["x:", "20", "security.capability"]) == 2
