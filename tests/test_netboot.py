"""Booting over the network: the scripts, and machines whose firmware loads them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from kiln import board as boards
from kiln.board import Board
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.netboot import offer
from kiln.netboot.http import HttpServer
from kiln.netboot.script import scripts
from kiln.netboot.server import Server
from kiln.netboot.table import Request, Table, lay_out
from kiln.netboot.tftp import TftpServer
from kiln.settings import Settings
from kiln.vm.check import verdict
from kiln.vm.console import Transcript, record
from kiln.vm.qemu import Boot, Uefi, command, find_program, find_uefi
from kiln.vm.setup import Setup
from tests.project import Project

ROOT = Path(__file__).parent.parent
OWN = "52-54-00-12-34-56"
TEMPLATE = "#!ipxe\nkernel @KERNEL@ initrd=@INITRD@ @CMDLINE@\n"


def rendered(board: Board, append: str = "") -> dict[str, str]:
    found = scripts(board, kernel="bzImage", initrd="rootfs.cpio.zst", append=append)
    return {name: text.decode() for name, text in found.items()}


@pytest.fixture
def board(project: Project) -> Board:
    project.file("board/common/boot.ipxe", TEMPLATE)
    project.board(packages=[], more='cmdline = "console=ttyS0 panic=-1"')
    return boards.load(project.root, "test", {})


def test_the_script_has_names_and_parameters_filled_in(board: Board) -> None:
    line = "kernel bzImage initrd=rootfs.cpio.zst console=ttyS0 panic=-1 kiln.word=pottery\n"
    assert rendered(board, "kiln.word=pottery") == {"boot.ipxe": f"#!ipxe\n{line}"}


def test_the_script_of_every_board_names_nothing_by_an_absolute_address() -> None:
    script = rendered(boards.load(ROOT, "qemu-x86_64", Graph.load(Settings.read(ROOT), "qemu-x86_64").recipes))
    assert "@" not in script["boot.ipxe"] and "://" not in script["boot.ipxe"]
    for label in re.findall(r"goto (\w+)", script["boot.ipxe"]) + re.findall(r"(?m)^item (\w+)", script["boot.ipxe"]):
        assert re.search(rf"(?m)^:{label}$", script["boot.ipxe"])


def test_a_boards_own_script_wins(board: Board, project: Project) -> None:
    project.file("board/test/boot.ipxe", "#!ipxe\nchain http://192.0.2.1/@BOARD@.ipxe\n")
    assert rendered(board) == {"boot.ipxe": "#!ipxe\nchain http://192.0.2.1/test.ipxe\n"}


def test_scripts_of_single_machines_come_from_the_board_and_from_all_boards(board: Board, project: Project) -> None:
    project.file(f"board/common/netboot/{OWN}.ipxe", "#!ipxe\nset append common\n")
    project.file("board/common/netboot/00-00-00-00-00-01.ipxe", "#!ipxe\nset append @BOARD@\n")
    project.file(f"board/test/netboot/{OWN}.ipxe", "#!ipxe\nset append own\n")
    found = rendered(board)
    assert sorted(found) == ["boot.ipxe", "mac/00-00-00-00-00-01.ipxe", f"mac/{OWN}.ipxe"]
    assert found[f"mac/{OWN}.ipxe"] == "#!ipxe\nset append own\n"
    assert found["mac/00-00-00-00-00-01.ipxe"] == "#!ipxe\nset append test\n"


@pytest.mark.parametrize("name", ["52:54:00:12:34:56.ipxe", "52-54-00-12-34-5A.ipxe", "52-54-00.ipxe", "notes.txt"])
def test_a_file_that_names_no_machine_is_told_of(board: Board, project: Project, name: str) -> None:
    path = project.file(f"board/test/netboot/{name}", "#!ipxe\n")
    with pytest.raises(KilnError) as caught:
        rendered(board)
    assert caught.value.where == os.fspath(path) and OWN in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("echo no first line\n", 1, "begins with the line #!ipxe"),
        ("#!ipxe\nkernel @KERNAL@\n", 2, "nothing to put for @KERNAL@"),
    ],
)
def test_a_mistake_in_a_script_is_told_with_its_line(
    board: Board, project: Project, text: str, line: int, message: str
) -> None:
    path = project.file("board/test/boot.ipxe", text)
    with pytest.raises(KilnError, match=message) as caught:
        rendered(board)
    assert caught.value.where == f"{path}:{line}"


def test_a_board_without_any_script_is_told_where_it_belongs(board: Board, project: Project) -> None:
    (project.root / "board/common/boot.ipxe").unlink()
    with pytest.raises(KilnError, match="cannot read the script") as caught:
        rendered(board)
    assert caught.value.where == os.fspath(project.root / "board/common/boot.ipxe")


@pytest.mark.parametrize("word", ["||", "&&", ";", "#1", "a=${b}", "a=\\"])
def test_a_parameter_that_ipxe_takes_for_its_own_is_told_of(board: Board, word: str) -> None:
    with pytest.raises(KilnError) as caught:
        rendered(replace(board, cmdline=f"quiet {word}"))
    assert word in caught.value.message


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The real board, with its image and its QEMU made."""
    doit = [sys.executable, "-m", "doit", "image", "tools:vm-x86_64"]
    run = subprocess.run(doit, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return Graph.load(Settings.read(ROOT), "qemu-x86_64")


class Guest:
    """A machine that boots over the network."""

    def __init__(self, graph: Graph, tmp_path: Path) -> None:
        self._tree = graph.tools[graph.vm].built().root
        self._log = tmp_path / "serial.log"
        self.program = find_program("x86_64", self._tree)
        # The kernel says what it was told in spite of the menu's `quiet`.
        self.contents = offer.contents(graph) | {
            f"mac/{OWN}.ipxe": b"#!ipxe\nset append loglevel=7 kiln.word=pottery\n"
        }
        self.rom = self._tree / "usr/lib/ipxe/qemu/efi-virtio.rom"
        self.machine = replace(graph.board.machine, forward=())

    @property
    def uefi(self) -> Uefi:
        return find_uefi(self._tree)

    def argv(self, boot: Boot, *, interactive: bool = False) -> list[str]:
        check = "" if interactive else "pottery"
        boot = replace(boot, rom=self.rom)
        return command(self.machine, boot, program=self.program, kvm=False, interactive=interactive, check=check)

    def boots(self, argv: list[str]) -> str:
        """All that a machine says that boots to the check in its image."""
        transcript: Transcript = record(argv, self._log, timeout=300, silence=120)
        found = verdict(transcript, "pottery", Setup(arch="x86_64", memory=self.machine.memory))
        text = "\n".join(text for _, text in transcript.lines)
        assert found.ok, f"{found.reason}\n{text}"
        return text


@pytest.fixture
def guest(graph: Graph, tmp_path: Path) -> Guest:
    return Guest(graph, tmp_path)


@contextmanager
def offered(contents: dict[str, Path | bytes], kind: Callable[..., Server]) -> Iterator[tuple[int, list[Request]]]:
    table, asked = Table(contents), list[Request]()
    try:
        with kind(table, "127.0.0.1", 0, asked.append).running() as port:
            yield port, asked
    finally:
        table.close()


@pytest.mark.boot
def test_a_machine_boots_by_tftp_with_the_parameters_of_its_own_script(guest: Guest, tmp_path: Path) -> None:
    lay_out(guest.contents, tmp_path / "tftp")
    said = guest.boots(guest.argv(Boot(tftp=tmp_path / "tftp", bootfile="boot.ipxe")))
    assert re.search(
        r"Command line: .* ip=10\.0\.2\.15:::255\.255\.255\.0::eth0:off loglevel=7 kiln.word=pottery", said
    )
    assert "info addresses=eth0 10.0.2.15/24" in said


@pytest.mark.boot
def test_a_machine_boots_by_http(guest: Guest) -> None:
    del guest.contents[f"mac/{OWN}.ipxe"]
    with offered(guest.contents, HttpServer) as (port, asked):
        said = guest.boots(guest.argv(Boot(web=port, bootfile="http://10.0.2.100/boot.ipxe")))
    assert "No script of its own for 52:54:00:12:34:56" in said
    assert [(request.status, request.name) for request in asked] == [
        ("200", "/boot.ipxe"), ("404", f"/mac/{OWN}.ipxe"), ("200", "/bzImage"), ("200", "/rootfs.cpio.zst"),
    ]  # fmt: skip


@pytest.mark.boot
def test_ipxe_boots_from_our_tftp_and_hands_on_gateway_and_name_server(guest: Guest, tmp_path: Path) -> None:
    with offered(guest.contents, TftpServer) as (port, asked):
        start = {"start.ipxe": f"#!ipxe\ndhcp\nchain tftp://10.0.2.2:{port}/boot.ipxe\n".encode()}
        lay_out(start, tmp_path / "tftp")
        argv = guest.argv(Boot(tftp=tmp_path / "tftp", bootfile="start.ipxe"))
        said = guest.boots([word.replace(",restrict=on", "") for word in argv])
    assert " ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off:10.0.2.3 " in said
    assert [(request.status, request.name) for request in asked] == [
        ("ok", "boot.ipxe"), ("ok", f"mac/{OWN}.ipxe"), ("ok", "bzImage"), ("ok", "rootfs.cpio.zst"),
    ]  # fmt: skip


@pytest.mark.boot
def test_a_uefi_machine_boots_by_the_same_script(guest: Guest, tmp_path: Path) -> None:
    lay_out(guest.contents, tmp_path / "tftp")
    said = guest.boots(guest.argv(Boot(tftp=tmp_path / "tftp", bootfile="boot.ipxe", uefi=guest.uefi)))
    assert re.search(r"efi: EFI v", said)
    assert " initrd=rootfs.cpio.zst " in said and "ip=10.0.2.15:" in said


@pytest.mark.boot
def test_a_missing_kernel_is_told_of_and_asked_for_again(guest: Guest) -> None:
    table = Table({name: content for name, content in guest.contents.items() if name != "bzImage"})
    whole = Table(guest.contents)
    missing: list[str] = []

    def report(request: Request) -> None:
        if request.status == "404":
            missing.append(request.name)
            server.table = whole

    server = HttpServer(table, "127.0.0.1", 0, report)
    with server.running() as port:
        said = guest.boots(guest.argv(Boot(web=port, bootfile="http://10.0.2.100/boot.ipxe")))
    table.close()
    whole.close()
    assert missing == ["/bzImage"]
    assert "qemu-x86_64 does not boot: there was no kernel bzImage" in said
    assert "It tries again in 10 seconds" in said


@pytest.mark.boot
def test_the_menu_is_worked_by_the_serial_line(guest: Guest, tmp_path: Path) -> None:
    lay_out(guest.contents, tmp_path / "tftp")
    program, *words = guest.argv(Boot(tftp=tmp_path / "tftp", bootfile="boot.ipxe"), interactive=True)
    child = pexpect.spawn(program, words, encoding="utf-8", timeout=180)
    child.expect("A root shell before services start")
    child.send("\x1b[B\x1b[B\r")
    child.expect(r"Command line: [^\r]* kiln\.rescue [^\r]*\r")
    assert "quiet" not in str(child.after)
    child.send("\x01x")
    child.expect(pexpect.EOF)
