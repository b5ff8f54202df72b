"""What a log says went wrong: excerpts of logs, and failures that really happen to the board's kernel."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.graph import Graph
from kiln.image import cpio
from kiln.image.manifest import Manifest, Node, file_node
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.console import record
from kiln.vm.diagnose import Finding, diagnose, read, render
from kiln.vm.qemu import Boot, command, find_program, own_program
from kiln.vm.setup import Setup
from tests.project import Project

ROOT = Path(__file__).parent.parent
BOARD = "qemu-x86_64"

KCONFIG = dict.fromkeys(
    ("CONFIG_TTY", "CONFIG_PRINTK", "CONFIG_SERIAL_8250", "CONFIG_SERIAL_8250_CONSOLE", "CONFIG_BLK_DEV", "CONFIG_NET",
     "CONFIG_NETDEVICES", "CONFIG_NET_CORE", "CONFIG_EXT4_FS", "CONFIG_BINFMT_ELF", "CONFIG_HW_RANDOM"),
    "y",
) | {"CONFIG_VIRTIO_BLK": "m"}  # fmt: skip
SHED = Setup(
    board="shed",
    arch="x86_64",
    memory=64,
    cmdline="console=ttyS0",
    kconfig=KCONFIG,
    shared={"net": {"CONFIG_VIRTIO_NET": "y"}},
)

KERNEL = "Linux version 6.1.176\nKernel command line: console=ttyS0 {}\n"
NO_DEVICE = """\
VFS: Cannot open root device "vda2" or unknown-block(0,0): error -6
Please append a correct "root=" boot option; here are the available partitions:
{}Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
Call Trace:
"""
PARTITIONS = """\
fe00           24576 vda
 driver: virtio_blk
  fe01           16384 vda1 4cf9a196-01
"""
NO_FILE_SYSTEM = f"""\
List of all partitions:
{PARTITIONS}No filesystem could mount root, tried:
 ext4

Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(254,1)
"""
OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000008
Oops: 0002 [#1] SMP
CPU: 0 PID: 1 Comm: init Not tainted 6.1.176 #1
RIP: 0010:{}
Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009
"""
LOCKED = "sshd[72]: User potter not allowed because account is locked"
MODES = "sshd[72]: Authentication refused: bad ownership or modes for directory /home/potter/.ssh"
FORWARD = "qemu-system-x86_64: -netdev user,id=net: Could not set up host forwarding rule 'tcp:127.0.0.1:2222-:22'"
EXT4 = "EXT4-fs error (device vda): ext4_lookup:1855: inode #12: comm ls: iget: checksum invalid"
READ_ONLY = f"{EXT4}\nEXT4-fs (vda): Remounting filesystem read-only\n"
STACK = "init (42) used greatest stack depth: 12936 bytes left"
LIBRARY = "Error loading shared library libz.so.1: No such file or directory (needed by /usr/sbin/sshd)"


def words(text: str, setup: Setup = SHED) -> list[tuple[str, str]]:
    """The level of each finding, and all of its words."""
    return [(finding.level, str(finding)) for finding in diagnose(read(text), setup)]


def only(text: str, setup: Setup = SHED) -> Finding:
    (finding,) = diagnose(read(text), setup)
    return finding


@pytest.mark.parametrize(
    ("text", "means", "then"),
    [
        (KERNEL.format("") + NO_DEVICE.format(""), "neither an initramfs nor root=", "root=/dev/vda"),
        (
            KERNEL.format("root=/dev/vda2") + NO_DEVICE.format(""),
            "no driver for /dev/vda2: CONFIG_VIRTIO_BLK=m, and the image has no modules",
            "CONFIG_VIRTIO_BLK=y into a fragment, such as board/shed/linux/",
        ),
        (
            KERNEL.format("root=/dev/vda2") + NO_DEVICE.format(PARTITIONS),
            "root=/dev/vda2 names nothing; the kernel found: vda, vda1 (PARTUUID=4cf9a196-01)",
            "rootwait",
        ),
        (KERNEL.format("root=UUID=0123") + NO_DEVICE.format(PARTITIONS), "does not know UUID=", "PARTUUID="),
        (
            KERNEL.format("root=/dev/vda1 rootfstype=squashfs") + NO_FILE_SYSTEM,
            "none of the file systems that this kernel knows (ext4): CONFIG_SQUASHFS is not set",
            "CONFIG_SQUASHFS=y",
        ),
        (KERNEL.format("root=/dev/vda1") + NO_FILE_SYSTEM, "CONFIG_EROFS_FS", "there are also vda)"),
        (
            KERNEL.format("root=/dev/sda1 rootwait") + " vda: vda1\nWaiting for root device /dev/sda1...\nclocksource",
            "the kernel found: vda, vda1",
            "correct root=",
        ),
        ("Initramfs unpacking failed: compression method lz4 not configured", "CONFIG_RD_LZ4 is not set", "RD_LZ4=y"),
        ("Initramfs unpacking failed: ZSTD-compressed data is truncated", "cut short", "doit verify"),
        ("Run /init as init process\nFATAL: kernel too old", "glibc", "configs/shed.toml"),
        (OOPS.format("virtblk_probe+0x1c/0x2f0"), "in virtblk_probe", "changes"),
        (OOPS.format("0xffffffff8130c0ee"), "in ffffffff8130c0ee (CONFIG_KALLSYMS=y", "changes"),
        ("Attempted to kill init! exitcode=0x0000000b", "ended by SIGSEGV", ""),
        ("can't run '/sbin/getty': No such file or directory", "/sbin/getty was called", "package"),
        ("vi[42]: segfault at 8 ip 0000000000401000 sp 00007ffc error 4 in busybox[400000+1000]", "busybox", "by hand"),
        ("traps: sshd[7] trap invalid opcode ip:4010a0 sp:7ffc error:0", "processor", "cpu in [qemu]"),
        ("Out of memory: Killed process 12 (sshd) total-vm:1234kB", "sshd was ended because the 64 MiB", "memory in"),
        (LIBRARY, "/usr/sbin/sshd needs the library libz.so.1", "libs"),
        (EXT4, "the file system on vda is damaged", "e2fsck"),
        ("I/O error, dev vda, sector 49152 op 0x0:(READ)", "the disk vda cannot be read", "shorter"),
        ("IP-Config: No network devices available", "CONFIG_VIRTIO_NET is not set", "add 'net' to linux in [kconfig]"),
        ("IP-Config: Auto-configuration of network failed", "DHCP", "ip="),
        ("sshd: no hostkeys available -- exiting.", "no host keys", "when sshd starts"),
        (MODES, "/home/potter/.ssh", "without write permission"),
        (LOCKED, "the account potter is locked", "[users]"),
        (FORWARD, "the port of tcp:127.0.0.1:2222-:22 is taken", "forward in [qemu]"),
        ("qemu-system-x86_64: Could not access KVM kernel module: Permission denied", "KVM", "KILN_ACCEL=tcg"),
        ("/bin/sh: can't access tty; job control turned off", "cannot control jobs", "cttyhack"),
        ("Starting kernel ...\n", "then said nothing", "console=ttyS0"),
        ("Run /init as init process\n\n", "no random numbers", "CONFIG_HW_RANDOM_VIRTIO=y"),
    ],
)
def test_a_sign_says_what_it_means_here_and_what_to_do(text: str, means: str, then: str) -> None:
    found = only(text)
    assert means in found.means
    assert then in found.then
    assert found.level != "note"


def test_what_follows_from_the_first_failure_is_left_out() -> None:
    unpacking = "Initramfs unpacking failed: write error\n" + NO_DEVICE.format("")
    found = only(KERNEL.format("") + "Memory: 40000K/65016K available (6144K kernel code)\n" + unpacking)
    assert "the machine has 64 MiB" in found.means
    assert [level for level, _ in words(f"{OOPS.format('f')}{READ_ONLY}")] == ["failure"] * 3


def test_times_and_repetitions_are_kept() -> None:
    text = "[    1.115] [    0.912345] can't open /dev/ttyS1: No such file or directory\n" * 3
    found = only(text + "[    2.000] KILN-CHECK 12 ok\n")
    assert (found.time, found.count) == (1.115, 3)
    assert str(found).startswith("failure  1.115 s  ")
    assert "(3 times)" in str(found)


@pytest.mark.parametrize(
    "text", [STACK, "random: dd: uninitialized urandom read (4 bytes read)\nrandom: crng init done"]
)
def test_what_only_looks_bad_is_said_to_be_harmless(text: str) -> None:
    log = read(f"Run /init as init process\n{text}\n")
    findings = diagnose(log, SHED)
    assert [finding.level for finding in findings] == ["note"]
    assert "harmless" in findings[0].means
    assert render(log, findings)[-1] == "the boot looks fine"


def test_init_is_for_disks() -> None:
    start = KERNEL.format("init=/bin/ash") + "Unpacking initramfs...\nRun /init as init process\nlogin: \n"
    found = only(start)
    assert found.level == "flaw"
    assert "rdinit=/bin/ash" in found.then
    assert words(start.replace("Unpacking initramfs...", "VFS: Mounted root (ext4 filesystem) readonly")) == []


@pytest.mark.parametrize(
    ("setup", "means", "then"),
    [
        (SHED, "the kernel did not start, or its console=", "console=ttyS0"),
        (replace(SHED, cmdline="console=tty0"), "the kernel prints on tty0", "console=ttyS0 into the cmdline of"),
        (replace(SHED, arch="aarch64", kconfig={}), "the kernel prints on ttyS0", "console=ttyAMA0"),
        (replace(SHED, arch="aarch64"), "CONFIG_SERIAL_AMBA_PL011_CONSOLE is not set", "CONFIG_SERIAL_AMBA_PL011=y"),
    ],
)
def test_silence_points_at_the_console(setup: Setup, means: str, then: str) -> None:
    found = only("\n", setup)
    assert means in found.means
    assert then in found.then


def program(machine: int, code: bytes = b"\x0f\x0b", *, loader: bytes = b"") -> bytes:
    """A small static program, or with ``loader`` one that asks for it."""
    start = 0x400000
    text = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, 0x200, 0x200, 0x1000)
    asks = struct.pack("<IIQQQQQQ", 3, 4, 0x100, start + 0x100, 0, len(loader) + 1, len(loader) + 1, 1)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, start + 0x180, 64, 0, 0, 64, 56, 2 if loader else 1, 0, 0, 0)
    return ((head + text + asks).ljust(0x100, b"\0") + loader).ljust(0x180, b"\0") + code.ljust(0x80, b"\0")


X86_64, AARCH64 = 62, 183
NULL = bytes.fromhex("31c0 8900")  # xor eax, eax; mov [rax], eax


def first(data: bytes, mode: int = 0o755) -> Node:
    return file_node("init", data, package="kiln", mode=mode)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (first(b"", 0o644), "/init is not executable: it has mode 0644, from kiln"),
        (first(b"hello\n"), "neither a program nor a script"),
        (first(b"#!/bin/bash\n"), "a script for /bin/bash, which is not in the image"),
        (first(b"#!/bin/sh\r\n"), "carriage return"),
        (first(b"#!/bin/sh -e\n"), None),
        (first(program(AARCH64)), "a program for aarch64, not for x86_64"),
        (first(program(X86_64, loader=b"/lib/ld-linux-x86-64.so.2")), "its loader /lib/ld-linux-x86-64.so.2 is not in"),
        (first(program(X86_64, loader=b"/lib/ld-musl-x86_64.so.1")), None),
        (Node(path="init", kind="dir", mode=0o755, package="kiln"), "/init is a folder"),
        (Node(path="init", kind="symlink", mode=0o777, package="kiln", target="sbin/start"), "/init is not in the"),
        (Node(path="init", kind="symlink", mode=0o777, package="kiln", target="init"), "/init is not in the image"),
    ],
)
def test_the_image_says_why_a_program_cannot_run(node: Node, reason: str | None) -> None:
    links = {
        "bin": "usr/bin",
        "lib": "/usr/lib",
        "usr/bin/sh": "../bin/./busybox",
        "usr/lib/ld-musl-x86_64.so.1": "libc.so",
    }
    nodes = [Node(path=path, kind="symlink", mode=0o777, package="p", target=to) for path, to in links.items()]
    nodes += [
        file_node(path, program(X86_64), package="p", mode=0o755) for path in ("usr/bin/busybox", "usr/lib/libc.so")
    ]
    setup = replace(SHED, nodes={item.path: item for item in [*nodes, node]})
    assert (setup.obstacle("/init") or "").find(reason or "") >= 0
    assert bool(setup.obstacle("/init")) == bool(reason)


def test_addresses_become_functions(tmp_path: Path) -> None:
    table = tmp_path / "System.map"
    table.write_text("ffffffff81000000 T _stext\nffffffff8130c000 t virtblk_probe\nffffffff8130d000 D data\n")
    setup = replace(SHED, symbols=table)
    assert "in virtblk_probe" in only(OOPS.format("0xffffffff8130c0ee"), setup).means


def test_the_verb_reads_a_log_or_the_newest_one(project: Project) -> None:
    log = project.file("output/test/boot/ext4.log", "[    1.000] Run /init as init process\n[    1.200] login: \n")
    old = project.file("output/test/boot/cpio.log", f"[    1.000] {LIBRARY}\n")
    os.utime(old, (1, 1))
    run = project.doit("diagnose")
    assert (run.returncode, run.stdout) == (0, f"{log.relative_to(project.root)}\nthe boot looks fine\n"), run.stderr
    run = project.doit("diagnose", os.fspath(old))
    assert run.returncode == 1
    assert "libz.so.1" in run.stdout
    line = "Linux version 6.1.176\nsomething else\n"
    run = subprocess.run(
        project.command("diagnose", "-"),
        cwd=project.root,
        env=project.env(),
        input=line,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "its last lines:\n         Linux version 6.1.176\n         something else" in run.stdout
    assert "nowhere.log: cannot read the log: No such file" in project.doit("diagnose", "nowhere.log").stdout


Booted = Callable[..., list[Finding]]


@pytest.fixture(scope="module")
def graph() -> Graph:
    graph = Graph.load(Settings.read(ROOT), BOARD)
    names = ["image"] if own_program(graph.board.arch.name) else ["image", f"tools:{graph.vm}"]
    run = subprocess.run([sys.executable, "-m", "doit", *names], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stdout.decode()
    return Graph.load(Settings.read(ROOT), BOARD)


@pytest.fixture
def booted(graph: Graph, tmp_path: Path) -> Booted:
    """Boots the board's kernel to its end, with parameters and ``nodes`` as its initramfs, and reads the log."""

    def boot(
        cmdline: str = "",
        *,
        nodes: list[Node] | None = None,
        drive: str = "",
        memory: int = 256,
        console: str = "ttyS0",
    ) -> list[Finding]:
        initrd = None
        setup = replace(Setup.of(graph), cmdline=f"console={console} {cmdline}", memory=memory)
        if nodes is not None:
            initrd = tmp_path / "root.cpio"
            manifest = Manifest.merge([("test", nodes)])
            cpio.write(manifest, initrd)
            setup = replace(setup, nodes={node.path: node for node in manifest.nodes})
        what = Boot(
            kernel=kernel_image(graph.result("linux").built()),
            initrd=initrd,
            drives=(graph.image.files()[drive],) if drive else (),
            cmdline=f"{setup.cmdline} panic=-1",
        )
        tree = graph.tools[graph.vm].entry()
        argv = command(
            replace(graph.board.machine, memory=memory),
            what,
            program=find_program(graph.board.arch.name, tree.root if tree else None),
            kvm=False,
            interactive=False,
        )
        transcript = record(argv, tmp_path / "log", timeout=300, silence=120)
        assert transcript.ended == "exit", (tmp_path / "log").read_text()
        return diagnose(read((tmp_path / "log").read_text()), setup)

    return boot


@pytest.fixture
def files(graph: Graph) -> list[Node]:
    """What the board's image holds, but for its first program."""
    nodes = Setup.of(graph).nodes.values()
    return [replace(node, digest="") if node.kind != "file" else _whole(node) for node in nodes if node.path != "init"]


def _whole(node: Node) -> Node:
    data = node.content.read_bytes() if isinstance(node.content, Path) else b""
    return replace(file_node(node.path, data, package=node.package), mode=node.mode)


def sole(findings: list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.time
    return finding


@pytest.mark.boot
@pytest.mark.parametrize(
    ("cmdline", "drive", "means"),
    [
        ("", "", "neither an initramfs nor root="),
        ("root=/dev/vdb", "rootfs.ext4", "root=/dev/vdb names nothing; the kernel found: vda"),
        ("root=PARTUUID=1234-02", "disk.img", "the kernel found: vda, vda1 (PARTUUID="),
        ("root=/dev/vda", "disk.img", "/dev/vda is there, and holds none of the file systems that this kernel knows"),
        ("root=/dev/vda1", "disk.img", "/dev/vda1 (vfat) is not the image's root: that has a /sbin/init"),
        ("root=/dev/vda", "", "the kernel has the driver for /dev/vda, and found no disk at all"),
        ("root=/dev/vda init=/nonexistent", "rootfs.ext4", "/nonexistent is not in the image"),
    ],
)
def test_a_root_that_is_not_found(booted: Booted, cmdline: str, drive: str, means: str) -> None:
    assert means in sole(booted(cmdline, drive=drive)).means


@pytest.mark.boot
@pytest.mark.parametrize(
    ("node", "cmdline", "means"),
    [
        (None, "", "the initramfs has no /init"),
        (first(b"#!/bin/sh\n"), "rdinit=/nonexistent", "the initramfs has no /nonexistent"),
        (first(program(AARCH64)), "", "/init is a program for aarch64, not for x86_64"),
        (first(program(X86_64, loader=b"/lib/ld-linux-x86-64.so.2")), "", "its loader /lib/ld-linux-x86-64.so.2"),
        (first(b"#!/bin/bash\n"), "", "/init is a script for /bin/bash, which is not in the image"),
    ],
)
def test_a_first_program_that_cannot_be_started(booted: Booted, node: Node | None, cmdline: str, means: str) -> None:
    nodes = [Node(path="dev/console", kind="char", mode=0o600, package="test", device=(5, 1))]
    assert means in sole(booted(cmdline, nodes=[*nodes, *([node] if node else [])])).means


@pytest.mark.boot
def test_a_first_program_that_is_not_executable(booted: Booted) -> None:
    assert "/init is not executable: it has mode 0644" in sole(booted(nodes=[first(b"#!/bin/sh\n", 0o644)])).means


@pytest.mark.boot
@pytest.mark.parametrize(
    ("script", "means"),
    [
        ("exit 3", "/init, ended with status 3"),
        (
            "exec /sbin/nothing",
            "status 127: a shell says 127 of a program that it did not find; its last words: /init:",
        ),
    ],
)
def test_a_first_program_that_ends(booted: Booted, files: list[Node], script: str, means: str) -> None:
    assert means in sole(booted(nodes=[*files, first(f"#!/bin/sh\n{script}\n".encode())])).means


@pytest.mark.boot
@pytest.mark.parametrize(("code", "means"), [(NULL, "SIGSEGV"), (b"\x0f\x0b", "SIGILL")])
def test_a_first_program_that_crashes(booted: Booted, code: bytes, means: str) -> None:
    assert means in booted(nodes=[first(program(X86_64, code))])[0].means


@pytest.mark.boot
def test_a_shell_without_a_terminal(booted: Booted, files: list[Node]) -> None:
    found = sole(
        booted(nodes=[*files, first(b"#!/bin/sh\nmount -t devtmpfs dev /dev\n(sleep 1; poweroff -f) &\nexec sh -i\n")])
    )
    assert (found.level, found.line) == ("flaw", "sh: can't access tty; job control turned off")


@pytest.mark.boot
def test_init_with_an_initramfs(booted: Booted, files: list[Node]) -> None:
    found = sole(booted("init=/nonexistent", nodes=[*files, first(b"#!/bin/sh\necho hello\npoweroff -f\n")]))
    assert "init=/nonexistent is for a root on a disk" in found.means


@pytest.mark.boot
def test_an_initramfs_that_is_too_big(booted: Booted) -> None:
    found = sole(booted(nodes=[first(b"#!"), file_node("ballast", bytes(30 << 20), package="test")], memory=64))
    assert "the machine has 64 MiB, and the files of the image take 30 MiB" in found.means


@pytest.mark.boot
def test_another_console(booted: Booted) -> None:
    (found,) = booted(console="ttyAMA0")
    assert "the kernel prints on ttyAMA0, and the serial port of this machine is ttyS0" in found.means
