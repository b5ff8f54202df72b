"""The initramfs that finds the root of a disk, a CD or a stick: its shell code, and real boots to a root of our own."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.graph import KERNEL, Graph
from kiln.image import cpio, disk, ext4, fat, squashfs
from kiln.image.manifest import Manifest, Node, file_node, tree_nodes
from kiln.kernel import kernel_image
from kiln.recipe.step import LICENSES
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.tools import Tools
from kiln.vm.console import record
from kiln.vm.qemu import Boot, command, find_program, kvm_works
from tests.console import Console

ROOT = Path(__file__).parent.parent
BOARD = "qemu-x86_64"
FILES = ROOT / "packages/early-init/files"
UUID = "6b696c6e-0000-4000-8000-000000000001"
TWIN = "6b696c6e-0000-4000-8000-000000000002"
SIGNATURE = 0xABCD1234
GUID = uuid.UUID("6b696c6e-0000-4000-8000-0000000000ff")

# The init of the roots here: says what it found, and ends the machine.
INIT = """\
#!/bin/sh
awk '$2 == "/" { type = $3; split($4, options, ",") } END { print "ROOT", type, options[1] }' /proc/mounts
echo "WORDS $*"
touch /written 2>/dev/null && echo WRITTEN
for folder in /dev /proc /run /sys; do mountpoint -q $folder || echo "NOT MOUNTED $folder"; done
ls /run/initramfs/live 2>/dev/null | sed 's/^/MEDIUM /'
poweroff -f
"""


def build(*names: str) -> Graph:
    env = dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)}
    subprocess.run([sys.executable, "-m", "doit", *names, f"BOARD={BOARD}"], cwd=ROOT, env=env, check=True)
    return Graph.load(Settings.read(ROOT), BOARD)


def shipped(graph: Graph, package: str) -> tuple[str, list[Node]]:
    nodes = tree_nodes(graph.result(package).built().root, package)
    return package, [node for node in nodes if not f"{node.path}/".startswith(f"{LICENSES}/")]


# The shell code, run by the shell of the image.

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def busybox() -> Path:
    """The folder with BusyBox and its links."""
    return build("busybox").result("busybox").built().root


@pytest.fixture
def run(tmp_path: Path, tools: Tools, busybox: Path) -> Run:
    """Runs a script that has read the initramfs's functions; its lines."""

    def _run(script: str, *, cmdline: str = "", other: Path | None = None) -> list[str]:
        root = tmp_path / "root"
        for name in ("bin", "dev", "proc", "sbin", "sysroot", "tmp", "usr/bin", "usr/sbin", "usr/lib/kiln"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cmdline").write_text(f"{cmdline}\n")
        given = [Mount(source=busybox / name, target=f"/{name}") for name in ("bin", "sbin", "usr/bin", "usr/sbin")]
        given.append(Mount(source=FILES, target="/usr/lib/kiln"))
        given.append(Mount(source=tmp_path / "cmdline", target="/proc/cmdline"))
        given += [Mount(source=other, target="/sysroot")] if other else []
        sandbox = Sandbox(root=root, launcher=tools.sandbox("image").launcher).with_mounts(given)
        return sandbox.run(["sh", "-c", f". /usr/lib/kiln/root\n{script}"]).decode().splitlines()

    return _run


VALUES = 'echo "$root|$fstype|$flags|$access|$init|$folder|$image|$overlay|$rescue|$stop|$timeout|$unknown"'
NOTHING = "|||ro|/sbin/init|LiveOS|squashfs.img||||0|"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("cmdline", "values"),
    [
        ("quiet console=ttyS0 ip=dhcp kiln.check=x", NOTHING),
        (
            "root=UUID=x ro rw rootfstype=ext4 rootflags=data=journal,noatime init=/bin/sh",
            "UUID=x|ext4|data=journal,noatime|rw|/bin/sh|LiveOS|squashfs.img||||0|",
        ),
        ("root=/dev/vda  root=LABEL=a=b ", "LABEL=a=b" + NOTHING),
        (
            'root="LABEL=a b" "init=/my init" rd.shell',
            "LABEL=a b|||ro|/my init|LiveOS|squashfs.img||yes||0|",
        ),
        (
            "root=live:LABEL=K rd.live.dir=os rd.live.squashimg=r.img rd.overlay rd.shell=1 rd.break rd.timeout=9",
            "live:LABEL=K|||ro|/sbin/init|os|r.img|yes|yes|pre-pivot|9|",
        ),
        ("rd.break=mount", "|||ro|/sbin/init|LiveOS|squashfs.img|||mount|0|"),
        (
            "rd.break=lunch rd.timeout=soon rd.timeout= rd.luks.uuid=7 init=sh",
            NOTHING + " rd.break=lunch rd.timeout=soon rd.timeout= rd.luks.uuid=7 init=sh",
        ),
        ("rw -- root=/dev/vda ro rd.shell", "|||rw|/sbin/init|LiveOS|squashfs.img||||0|"),
        ("root=* rootflags=$(id) xroot=/dev/sda", "*||$(id)|ro|/sbin/init|LiveOS|squashfs.img||||0|"),
    ],
)
def test_the_words_of_the_command_line(run: Run, cmdline: str, values: str) -> None:
    assert run(f"parse; {VALUES}", cmdline=cmdline) == [values]


@pytest.mark.sandbox
def test_links_of_the_root_are_followed_within_it(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "usr/bin").mkdir(parents=True)
    (other / "usr/bin/busybox").touch()
    for name, target in {"bin": "/usr/bin", "sbin": "usr/../usr/bin", "usr/bin/sh": "busybox", "init": "/sbin/sh",
                         "out": "../../../usr/bin", "loop": "loop"}.items():  # fmt: skip
        (other / name).symlink_to(target)
    paths = ("/init", "//sbin/./sh", "/bin/busybox", "/out/sh", "/usr/bin/none", "/loop")
    lines = run(
        f"for path in {' '.join(paths)}; do inside /sysroot $path || echo none; done",
        other=other,
    )
    assert lines == [*["/sysroot/usr/bin/busybox"] * 4, "/sysroot/usr/bin/none", "none"]


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        pytest.skip("needs shellcheck")
    subprocess.run([program, "-x", *FILES.iterdir()], check=True, cwd=ROOT)


# Real boots.


class Lab:
    """A machine with our initramfs, and the drives that it may find."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.folder = folder
        self._machine = replace(graph.board.machine, forward=())
        self._program = find_program(graph.board.arch.name, graph.tools[graph.vm].built().root)
        self._kvm = kvm_works(self._machine, self._program)
        self._kernel = kernel_image(graph.result(KERNEL).built())
        self._words = graph.board.cmdline
        self._initrd = folder / "initramfs.cpio"
        console = Node(path="dev/console", kind="char", mode=0o600, device=(5, 1), package="board")
        layers = [shipped(graph, "busybox"), shipped(graph, "early-init"), ("board", [console])]
        cpio.write(Manifest.merge(layers), self._initrd)

    def argv(self, cmdline: str, drives: tuple[str, ...], interactive: bool) -> list[str]:
        boot = Boot(kernel=self._kernel, initrd=self._initrd, cmdline=f"{self._words} quiet {cmdline}")
        words = command(self._machine, boot, program=self._program, kvm=self._kvm, interactive=interactive)
        for number, name in enumerate(drives):
            words += ["-drive", f"if=none,id=drive{number},format=raw,snapshot=on,file={self.folder / name}"]
            words += ["-device", f"{'ide-cd' if name.endswith('.iso') else 'virtio-blk-pci'},drive=drive{number}"]
        return words

    def boot(self, cmdline: str, *drives: str, words: tuple[str, ...] = ()) -> list[str]:
        """Boot to the end; what came on the console."""
        argv = [*self.argv(cmdline, drives, interactive=False), *words]
        transcript = record(argv, self.folder / "boot.log", timeout=300, silence=90)
        lines = [line.strip() for _, line in transcript.lines]
        assert transcript.ended == "exit", "\n".join(lines)
        return lines

    def sit(self, cmdline: str, *drives: str) -> Console:
        """Boot with a person at the console."""
        return Console(self.argv(cmdline, drives, interactive=True))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Lab:
    graph = build("busybox", "early-init", KERNEL, f"tools:{Graph.load(Settings.read(ROOT), BOARD).vm}")
    folder, sandbox = tmp_path_factory.mktemp("lab"), tools.sandbox("image")
    folders = [Node(path=path, kind="dir", mode=0o755, package="root") for path in ("dev", "proc", "run", "sys")]
    own = file_node("usr/bin/own-init", INIT.encode(), package="root", mode=0o755)
    link = Node(path="sbin/init", kind="symlink", mode=0o777, target="/usr/bin/own-init", package="root")
    name, nodes = shipped(graph, "busybox")
    programs = (name, [node for node in nodes if node.path != "sbin/init"])
    root = Manifest.merge([programs, ("root", [*folders, own, link])])

    def scratch() -> Path:
        return tmp_path_factory.mktemp("scratch")

    size = 8 << 20
    ext4.write(root, folder / "ext4.img", sandbox=sandbox, scratch=scratch(), size=size, uuid=UUID, label="pot")
    ext4.write(root, folder / "twin.img", sandbox=sandbox, scratch=scratch(), size=size, uuid=TWIN, label="pot")
    squashfs.write(root, folder / "squashfs.img", sandbox=sandbox, scratch=scratch())
    files = {"LiveOS/squashfs.img": folder / "squashfs.img"}
    fat.write(files, folder / "fat.img", sandbox=sandbox, label="STICK", serial=0x12345678)
    linux = disk.Partition(content=folder / "ext4.img", kind="linux", name="the root")
    other = disk.Partition(content=folder / "fat.img", kind="fat16", bootable=True)
    disk.write_mbr(folder / "mbr.img", [other, linux], signature=SIGNATURE, boot_code=b"")
    esp = disk.Partition(content=folder / "fat.img", kind="efi", name="ESP")
    disk.write_gpt(folder / "gpt.img", [esp, linux], guid=GUID)
    medium = folder / "medium"
    (medium / "LiveOS").mkdir(parents=True)
    shutil.copy(folder / "squashfs.img", medium / "LiveOS")
    shutil.copy(sandbox.root / "usr/lib/ISOLINUX/isolinux.bin", medium)
    # fmt: off
    sandbox.with_mounts([Mount(source=folder, target="/work", writable=True)]).run([
        "xorriso", "-as", "mkisofs", "-quiet", "-V", "KILN", "-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin",
        "-c", "boot.cat", "-b", "isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
        "-o", "/work/live.iso", "/work/medium",
    ])
    # fmt: on
    shutil.copy(folder / "live.iso", folder / "hybrid.img")
    return Lab(graph, folder)


@pytest.mark.boot
def test_each_way_to_name_a_device_and_a_boot_that_goes_on(lab: Lab) -> None:
    second = disk.partition_guid(GUID, 2)
    console = lab.sit(f"root=PARTUUID={second.upper()} rd.break=pre-mount", "mbr.img", "gpt.img", "hybrid.img")
    assert "can't access tty" not in console.until("# ")
    console.ask(". /usr/lib/kiln/root")
    assert sorted(console.ask("holders LABEL=pot")) == ["/dev/vda2", "/dev/vdb2"]
    assert sorted(console.ask(f"holders UUID={UUID.upper()}")) == ["/dev/vda2", "/dev/vdb2"]
    assert console.ask("holders LABEL=po; holders LABEL=; holders UUID=; holders PARTUUID=; holders /dev/vdz") == []
    assert console.ask("holders /dev/vda1") == ["/dev/vda1"]
    assert console.ask(f"holders PARTUUID={disk.partuuid(SIGNATURE, 2)}") == ["/dev/vda2"]
    assert console.ask(f"holders PARTUUID={second}") == ["/dev/vdb2"]
    assert console.ask("holders 'PARTLABEL=the root'") == ["/dev/vdb2"]
    # The CD's image on a stick has a partition that is the same file system.
    assert console.ask("blkid | grep -c KILN") == ["2"]
    assert console.ask("holders LABEL=KILN") == ["/dev/vdc"]
    assert "Stopped" in "".join(console.ask("sleep 99 & kill -STOP %1; sleep 1; jobs; kill -KILL %1; wait"))
    text = console.end("exit")
    assert "ROOT ext4 ro" in text
    assert "NOT MOUNTED" not in text


@pytest.mark.boot
def test_a_live_cd_has_a_root_to_write_on_and_keeps_its_medium_in_reach(lab: Lab) -> None:
    lines = lab.boot("root=live:LABEL=KILN one -- two=2", "live.iso")
    assert "ROOT overlay rw" in lines
    assert "WORDS one two=2" in lines
    assert "WRITTEN" in lines
    assert "MEDIUM LiveOS" in lines
    assert not any(line.startswith(("initramfs:", "NOT MOUNTED")) for line in lines)


@pytest.mark.boot
def test_a_live_stick_with_fat(lab: Lab) -> None:
    lines = lab.boot("root=live:UUID=1234-5678", "fat.img")
    assert "ROOT overlay rw" in lines
    assert "MEDIUM LiveOS" in lines


@pytest.mark.boot
def test_a_layer_over_a_root_that_is_only_read(lab: Lab) -> None:
    lines = lab.boot("root=/dev/vda rd.overlay rw", "squashfs.img")
    assert "ROOT overlay rw" in lines
    assert "WRITTEN" in lines


@pytest.mark.boot
def test_a_label_that_two_devices_have_is_refused(lab: Lab) -> None:
    lines = lab.boot("root=LABEL=pot", "ext4.img", "twin.img")
    said = next(line for line in lines if line.startswith("initramfs: cannot start the system: LABEL=pot is on"))
    assert {"/dev/vda", "/dev/vdb"} < set(said.split())
    assert f'/dev/vdb: LABEL="pot" UUID="{TWIN}" TYPE="ext4"' in lines
    assert any("Attempted to kill init" in line for line in lines)
    assert not any(line.startswith("ROOT") for line in lines)


@pytest.mark.boot
def test_the_wait_for_a_root_that_never_comes_ends(lab: Lab) -> None:
    lines = lab.boot("root=PARTUUID=none rd.timeout=6 rd.nothing", "gpt.img")
    assert "initramfs: not understood: rd.nothing" in lines
    assert any(re.match(r"initramfs: waits for PARTUUID=none since 5 s", line) for line in lines)
    listed = f'/dev/vda2: LABEL="pot" UUID="{UUID}" TYPE="ext4" PARTLABEL="the root"'
    assert f'{listed} PARTUUID="{disk.partition_guid(GUID, 2)}"' in lines
    assert any(re.match(r"initramfs: cannot start the system: there is no PARTUUID=none after", line) for line in lines)
    assert any("Attempted to kill init" in line for line in lines)


@pytest.mark.boot
def test_a_root_without_the_init_is_rescued_by_hand(lab: Lab) -> None:
    console = lab.sit("root=LABEL=pot rw init=/bin/mine rd.shell", "ext4.img")
    text = console.until("# ")
    assert "cannot start the system: the root has no program /bin/mine; it holds bin dev" in text
    assert re.search(r"programs like it: .*\./sbin/init\b", text)
    console.ask("ln -s /usr/bin/own-init /sysroot/bin/mine")
    assert "ROOT ext4 rw" in console.end("exit")


@pytest.mark.boot
def test_a_drive_that_is_plugged_in_late_is_waited_for(lab: Lab) -> None:
    place = lab.folder / "qmp"
    file = f"if=none,id=late,format=raw,snapshot=on,file={lab.folder / 'ext4.img'}"
    words = ("-qmp", f"unix:{place},server=on,wait=off", "-device", "qemu-xhci", "-drive", file)
    thread = threading.Thread(target=plug_in, args=(place, lab.folder / "boot.log"))
    thread.start()
    lines = lab.boot(f"root=UUID={UUID}", words=words)
    thread.join()
    waiting = lines.index("none")
    assert lines[waiting - 1].startswith(f"initramfs: waits for UUID={UUID} since 5 s")
    assert "ROOT ext4 ro" in lines[waiting:]


def plug_in(place: Path, log: Path) -> None:
    """Plug a stick into a machine that waits for it."""
    deadline = time.monotonic() + 180
    while not (log.exists() and "waits for UUID" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fspath(place))
        with connection.makefile("rw") as channel:
            channel.readline()
            stick = {"driver": "usb-storage", "drive": "late", "id": "stick"}
            for name, given in (("qmp_capabilities", {}), ("device_add", stick)):
                channel.write(json.dumps({"execute": name, "arguments": given}) + "\n")
                channel.flush()
                assert "return" in json.loads(channel.readline())
