import itertools
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.settings import Settings
from kiln.vm.console import record
from kiln.vm.qemu import Boot, Machine, command, find_program, find_qemu, kvm_works, with_free_ports
from tests.project import Project

MACHINE = Machine()
DISK = Boot(drives=(Path("/images/disk.img"),))
QEMU = ("qemu",)

# Says its line on the first serial port and resets the machine through the keyboard controller.
BOOT_SECTOR = bytes.fromhex("be157c ac 84c0 7406 baf803 ee ebf5 b0fe e664 f4 ebfd") + b"hello from the disk\r\n\0"


def pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(words))


def test_a_machine_may_reach_its_host_and_another_machine() -> None:
    boot = replace(DISK, host=True, cable=Path("/t/cable"), serves=True)
    words = pairs(command(MACHINE, boot, program=QEMU, kvm=False, interactive=False))
    assert ("-netdev", "user,id=net") in words
    assert ("-netdev", "stream,id=cable,server=on,addr.type=unix,addr.path=/t/cable") in words
    cards = [value for name, value in words if name == "-device" and "netdev=cable" in value]
    other = pairs(command(MACHINE, replace(boot, serves=False), program=QEMU, kvm=False, interactive=False))
    assert ("-netdev", "stream,id=cable,server=off,addr.type=unix,addr.path=/t/cable") in other
    assert not set(cards) & {value for _, value in other}  # a card of its own


def test_a_test_of_a_kernel_an_initramfs_and_a_disk() -> None:
    boot = Boot(
        kernel=Path("/b/bzImage"), initrd=Path("/b/root.cpio"), drives=(Path("/b/d.img"),), cmdline="console=ttyS0"
    )
    words = command(MACHINE, boot, program=QEMU, kvm=False, interactive=False, check="c0ffee")
    # fmt: off
    assert words == [
        "qemu",
        "-nodefaults", "-no-user-config",
        "-display", "none",
        "-machine", "q35",
        "-accel", "tcg,tb-size=48",
        "-cpu", "max,-avx,-avx2,-erms",
        "-smp", "1",
        "-m", "256",
        "-device", "virtio-rng-pci",
        "-netdev", "user,id=net,restrict=on",
        "-device", "virtio-net-pci,netdev=net,romfile=",
        "-no-reboot",
        "-chardev", "stdio,id=console,signal=off",
        "-serial", "chardev:console",
        "-kernel", "/b/bzImage",
        "-append", "console=ttyS0 kiln.check=c0ffee",
        "-initrd", "/b/root.cpio",
        "-drive", "if=none,id=disk0,format=raw,snapshot=on,file=/b/d.img",
        "-device", "virtio-blk-pci,drive=disk0",
    ]
    # fmt: on


def test_a_disk_with_a_boot_loader_of_its_own_hears_of_the_check_by_the_firmware() -> None:
    words = command(MACHINE, DISK, program=QEMU, kvm=False, interactive=False, check="c0ffee")
    assert ("-fw_cfg", "name=opt/kiln/check,string=c0ffee") in pairs(words)
    assert "-append" not in words


def test_devices_are_on_the_bus_of_the_machine() -> None:
    words = command(replace(MACHINE, bus="mmio"), DISK, program=QEMU, kvm=False, interactive=False)
    devices = {word for flag, word in pairs(words) if flag == "-device"}
    assert devices == {"virtio-rng-device", "virtio-net-device,netdev=net", "virtio-blk-device,drive=disk0"}


def test_a_user_reaches_the_guest_by_ports_of_the_loopback_and_a_test_does_not() -> None:
    machine = replace(MACHINE, forward=("2222:22", "8080:80"))
    words = command(machine, DISK, program=QEMU, kvm=False, interactive=True)
    forwarded = "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80"
    assert ("-netdev", forwarded) in pairs(words)
    words = command(machine, DISK, program=QEMU, kvm=False, interactive=False)
    assert ("-netdev", "user,id=net,restrict=on") in pairs(words)


def test_a_guest_can_be_on_an_interface_of_this_machine() -> None:
    words = command(MACHINE, DISK, program=QEMU, kvm=False, interactive=True, tap="tap7")
    assert ("-netdev", "tap,id=net,ifname=tap7,script=no,downscript=no") in pairs(words)
    assert not any(word.startswith("user,") for word in words)


def test_a_port_that_is_taken_is_another_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (pair,) = with_free_ports(replace(MACHINE, forward=(f"{port}:22",))).forward
        assert pair.endswith(":22")
        assert pair != f"{port}:22"
    assert with_free_ports(replace(MACHINE, forward=(f"{port}:22",))).forward == (f"{port}:22",)


def test_a_user_has_a_monitor_a_network_and_reboots() -> None:
    words = command(MACHINE, DISK, program=QEMU, kvm=False, interactive=True)
    assert {("-serial", "mon:stdio"), ("-netdev", "user,id=net")} <= pairs(words)
    assert "-no-reboot" not in words
    assert "-append" not in words


def test_kvm_takes_the_whole_processor() -> None:
    words = command(MACHINE, DISK, program=QEMU, kvm=True, interactive=False)
    assert {("-accel", "kvm"), ("-cpu", "max")} <= pairs(words)


def test_a_board_chooses_its_machine() -> None:
    machine = Machine(arch="aarch64", machine="virt", cpu="cortex-a57", memory=512, cpus=2, devices=("pvpanic-pci",))
    words = command(machine, DISK, program=QEMU, kvm=False, interactive=False)
    chosen = {("-machine", "virt"), ("-cpu", "cortex-a57"), ("-m", "512"), ("-smp", "2"), ("-device", "pvpanic-pci")}
    assert chosen <= pairs(words)


def test_commas_in_names_are_no_options() -> None:
    words = command(MACHINE, Boot(drives=(Path("/a,b/d.img"),)), program=QEMU, kvm=False, interactive=False)
    assert ("-drive", "if=none,id=disk0,format=raw,snapshot=on,file=/a,,b/d.img") in pairs(words)


def test_the_machines_own_qemu_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "qemu-system-x86_64"
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("x86_64", tmp_path / "tree") == (str(own),)


def test_a_tree_brings_qemu_its_loader_and_its_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/qemu-system-x86_64").touch(mode=0o755)
    program = find_program("x86_64", tmp_path)
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    assert program[:3] == ("env", f"QEMU_MODULE_DIR={libraries}/qemu", f"{libraries}/ld-linux-x86-64.so.2")
    assert program.index(f"{tmp_path}/usr/bin/qemu-system-x86_64") < program.index("-L")
    with pytest.raises(KilnError, match="no qemu-system-aarch64, and the machine tools in "):
        find_program("aarch64", tmp_path)
    with pytest.raises(KilnError, match="is not here yet"):
        find_program("x86_64", None)


def test_kvm_is_for_the_same_architecture_and_a_qemu_that_starts() -> None:
    assert not kvm_works(replace(MACHINE, arch="riscv64"), ("true",))
    assert not kvm_works(MACHINE, ("false",))


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs a qemu-system-x86_64 of the machine's own")
def test_qemu_boots_a_disk_and_leaves_it_alone(tmp_path: Path) -> None:
    image = (BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")
    disk = tmp_path / "a,b.img"
    disk.write_bytes(image)
    program = find_program("x86_64", None)
    words = command(MACHINE, Boot(drives=(disk,)), program=program, kvm=False, interactive=False, check="word")
    transcript = record(words, tmp_path / "log", timeout=180, silence=90)
    assert (transcript.ended, transcript.status) == ("exit", 0)
    assert "hello from the disk" in [text for _, text in transcript.lines]
    assert disk.read_bytes() == image


@pytest.mark.parametrize(("accel", "counts"), [("tcg", False), ("icount", True)])
def test_a_clock_counts_instructions_where_that_is_asked_for(
    project: Project, monkeypatch: pytest.MonkeyPatch, accel: str, counts: bool
) -> None:
    own = project.file("bin/qemu-system-x86_64", "#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(own.parent))
    project.board(packages=[])
    found, kvm = find_qemu(Graph.load(Settings.read(project.root, {"KILN_ACCEL": accel}), "test"))
    assert (found[0], "-icount" in found, kvm) == (os.fspath(own), counts, False)
