"""Roots on another machine: one of ours serves them, and a second one, which has no drive, boots from there."""

import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from kiln.graph import Graph
from kiln.image.boot import Disk
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.check import verdict
from kiln.vm.console import record
from kiln.vm.qemu import Boot, command, find_program, kvm_works
from kiln.vm.setup import Setup
from tests.test_boot import BOARD, ROOT, doit

pytestmark = pytest.mark.boot

SERVER = "qemu-x86_64-server"
CLIENT = "qemu-x86_64-diskless"
NAME = "iqn.2026-01.kiln:root"
# Two machines, which may have one processor between them.
PATIENCE = 300


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    """The boards, built."""
    for name in (BOARD, SERVER, CLIENT):
        doit("image", f"BOARD={name}")
    doit(f"tools:{Graph.load(Settings.read(ROOT), BOARD).vm}")
    return {name: Graph.load(Settings.read(ROOT), name) for name in (BOARD, SERVER, CLIENT)}


@pytest.fixture
def cable() -> Iterator[Path]:
    """Where two machines meet: a socket, whose path must be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "cable"


def words(graph: Graph, boot: Boot, cable: Path, *, check: str = "") -> list[str]:
    """The command that starts a machine with a second network card, on the cable; the server is the first to come."""
    first = not cable.exists()
    program, machine = find_program("x86_64", graph.tools[graph.vm].built().root), graph.board.machine
    kvm = kvm_works(machine, program)
    # fmt: off
    return [
        *command(machine, boot, program=program, kvm=kvm, interactive=False, check=check),
        "-netdev", f"stream,id=cable,server={'on' if first else 'off'},addr.type=unix,addr.path={cable}",
        "-device", f"virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:10:09:0{1 if first else 2}",
    ]
    # fmt: on


def kernel(graph: Graph, append: str) -> Boot:
    return Boot(kernel=kernel_image(graph.kernel.built()), cmdline=f"{graph.board.cmdline} {append}")


@contextmanager
def started(argv: list[str]) -> "Iterator[pexpect.spawn[str]]":
    child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", codec_errors="replace", timeout=PATIENCE)
    try:
        yield child
    finally:
        child.close(force=True)


@contextmanager
def server(graph: Graph, cable: Path, how: str, drive: Path | None) -> Iterator[str]:
    """A running server, and what it says of itself."""
    boot = kernel(graph, f"ip=10.9.0.1:::255.255.255.0::eth1:none {how}")
    boot = replace(boot, initrd=graph.media["cpio"].file, drive=drive)
    with started(words(graph, boot, cable)) as child:
        child.expect(r"root-server: ([^\r\n]+)\r")
        assert isinstance(child.match, re.Match)
        yield child.match[1]


@pytest.mark.parametrize("options", ["", ",vers=4.2,rsize=1048576,wsize=1048576"])
def test_a_root_by_nfs(graphs: dict[str, Graph], cable: Path, tmp_path: Path, options: str) -> None:
    graph, nonce, log = graphs[CLIENT], secrets.token_hex(8), tmp_path / "log"
    boot = kernel(graph, f"root=/dev/nfs nfsroot=10.9.0.1:/{options} ip=10.9.0.2:::255.255.255.0::eth1:none")
    with server(graphs[SERVER], cable, "kiln.serve=nfs", graph.media["ext4"].file) as said:
        assert said == "nfs is ready"
        seen = record(words(graph, boot, cable, check=nonce), log, timeout=PATIENCE, silence=PATIENCE)
    assert verdict(seen, nonce, Setup(cmdline=boot.cmdline)).ok, log.read_text()
    assert re.search(r"info root=nfs4?$", log.read_text(), re.MULTILINE)


def test_a_drive_by_iscsi(graphs: dict[str, Graph], cable: Path, tmp_path: Path) -> None:
    """iPXE logs in, and all that starts a kernel is read from there."""
    graph, script = graphs[BOARD], tmp_path / "boot.ipxe"
    disk = graph.media["disk"]
    assert isinstance(disk, Disk)
    drive = disk.copy_with("ignore_loglevel", tmp_path)
    card = "set net1/ip 10.9.0.2\nset net1/netmask 255.255.255.0\nifopen net1\n"
    script.write_text(f"#!ipxe\n{card}sanboot iscsi:10.9.0.1::::{NAME}\n")
    rom = graph.tools[graph.vm].built().root / "usr/lib/ipxe/qemu/efi-virtio.rom"
    boot = Boot(tftp=tmp_path, bootfile=script.name, rom=rom)
    with server(graphs[SERVER], cable, "kiln.serve=iscsi", drive) as said:
        assert said == f"iscsi is ready: {NAME}"
        with started(words(graph, boot, cable)) as child:
            child.expect("Booting from SAN device")
            child.expect("Linux version")


@pytest.mark.parametrize(
    ("how", "medium", "told"),
    [
        ("", "ext4", "'' is nothing to serve: say kiln.serve=nfs or kiln.serve=iscsi to the kernel"),
        ("kiln.serve=smb", "ext4", "'smb' is nothing to serve: say kiln.serve=nfs or kiln.serve=iscsi to the kernel"),
        ("kiln.serve=iscsi", "", "there is no drive /dev/vda"),
        ("kiln.serve=nfs", "disk", "/dev/vda has no file system to serve"),
    ],
)
def test_a_server_says_what_is_wrong(graphs: dict[str, Graph], cable: Path, how: str, medium: str, told: str) -> None:
    drive = graphs[BOARD].media[medium].file if medium else None
    with server(graphs[SERVER], cable, how, drive) as said:
        assert said == told
