"""A machine that serves its drive to others: to firmware, and with a word on the console where it cannot."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from kiln.graph import Graph
from kiln.image.boot import Disk
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.qemu import Boot, command, find_qemu
from tests.console import ROOT
from tests.test_boot import doit

pytestmark = pytest.mark.boot

BOARD = "qemu-x86_64-dracut"
NAME = "iqn.2026-01.kiln:root"
# Two machines, which may have one processor between them.
PATIENCE = 300


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The board, built."""
    doit("image", f"BOARD={BOARD}")
    found = Graph.load(Settings.read(ROOT), BOARD)
    doit(f"tools:{found.vm}")
    return Graph.load(Settings.read(ROOT), BOARD)


@pytest.fixture
def cable() -> Iterator[Path]:
    """Where two machines meet: a socket, whose path must be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "cable"


@contextmanager
def started(graph: Graph, boot: Boot) -> "Iterator[pexpect.spawn[str]]":
    program, kvm = find_qemu(graph)
    argv = command(graph.board.machine, boot, program=program, kvm=kvm, interactive=False)
    child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", codec_errors="replace", timeout=PATIENCE)
    try:
        yield child
    finally:
        child.close(force=True)


@contextmanager
def server(graph: Graph, cable: Path, how: str, drive: Path | None) -> Iterator[str]:
    """A running server, and what it says of itself."""
    boot = Boot(
        kernel=kernel_image(graph.kernel.built()),
        initrd=graph.media["cpio"].file,
        drives=(drive,) if drive else (),
        cmdline=f"{graph.board.cmdline} ip=10.9.0.1:::255.255.255.0::eth1:none {how}",
        cable=cable,
        serves=True,
    )
    with started(graph, boot) as child:
        child.expect(r"root-server: ([^\r\n]+)\r")
        assert isinstance(child.match, re.Match)
        yield child.match[1]


def test_a_drive_by_iscsi(graph: Graph, cable: Path, tmp_path: Path) -> None:
    """iPXE logs in, and all that starts a kernel is read from there."""
    script, disk = tmp_path / "boot.ipxe", graph.media["disk"]
    assert isinstance(disk, Disk)
    drive = disk.copy_with("ignore_loglevel", tmp_path)
    card = "set net1/ip 10.9.0.2\nset net1/netmask 255.255.255.0\nifopen net1\n"
    script.write_text(f"#!ipxe\n{card}sanboot iscsi:10.9.0.1::::{NAME}\n")
    rom = graph.tools[graph.vm].built().root / "usr/lib/ipxe/qemu/efi-virtio.rom"
    boot = Boot(tftp=tmp_path, bootfile=script.name, rom=rom, cable=cable)
    with server(graph, cable, "kiln.serve=iscsi", drive) as said:
        assert said == f"iscsi is ready: {NAME}"
        with started(graph, boot) as child:
            child.expect("Booting from SAN device")
            child.expect("Linux version")


@pytest.mark.parametrize(
    ("how", "medium", "told"),
    [
        ("kiln.serve=smb", "ext4", "'smb' is nothing to serve: say kiln.serve=nfs or kiln.serve=iscsi to the kernel"),
        ("kiln.serve=iscsi", "", "there is no drive /dev/vda"),
        ("kiln.serve=nfs", "disk", "/dev/vda has no file system to serve"),
    ],
)
def test_a_server_says_what_is_wrong(graph: Graph, cable: Path, how: str, medium: str, told: str) -> None:
    drive = graph.media[medium].file if medium else None
    with server(graph, cable, how, drive) as said:
        assert said == told
