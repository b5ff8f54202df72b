"""What programs that others wrote see in the initramfs that we wrote, and we in theirs."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kiln import trees
from kiln.graph import Graph
from kiln.image import cpio as writer
from kiln.initramfs import compression, packing, segments
from kiln.initramfs.folder import unpack
from kiln.initramfs.view import View
from kiln.kernel import kernel_image
from kiln.report.initramfs import hooks
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.vm.check import boot_and_check
from kiln.vm.qemu import Boot, find_qemu
from kiln.vm.setup import Setup
from tests.console import ROOT
from tests.initramfs import archive, file, folder
from tests.rootfs import sample
from tests.test_boot import doit

pytestmark = pytest.mark.sandbox

EARLY = (file("early_cpio", b"1\n"), folder("kernel"), file("kernel/microcode.bin", os.urandom(3000)))
# unmkinitramfs knows these by their programs, lsinitrd needs a shell script for gzip.
COMPRESSORS = ("zstd", "xz", "lz4", "bzip2")

BOARD = "qemu-x86_64-dracut"
# Of Debian's libc-bin; and a cp for trees of the store, none of whose files may be written over.
LDD = '#!/bin/sh\nexec /lib64/ld-linux-x86-64.so.2 --list "$@"\n'
CP = '#!/bin/sh\nexec cp.real -f "$@"\n'


@pytest.fixture
def inside(checkers: Sandbox, tmp_path: Path) -> Sandbox:
    mount = Mount(source=tmp_path, target="/work", writable=True)
    return checkers.with_mounts([mount]).with_env({"TMPDIR": "/tmp"}, cwd="/work")


def names(path: Path) -> list[str]:
    return [entry.name for segment in segments.read(path) for entry in segment if not entry.is_trailer]


def theirs(inside: Sandbox, path: Path) -> None:
    """An image as distributions put it together: microcode in front, the rest by GNU cpio and zstd."""
    root = path.parent / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(os.urandom(70_000))
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/other")
    os.link(root / "usr/bin/tool", root / "usr/bin/third")
    (root / "bin").symlink_to("usr/bin")
    (root / "init").write_text("#!/bin/sh\n")
    (path.parent / "early").mkdir()
    (path.parent / "early/microcode").write_bytes(os.urandom(3000))
    lines = [
        "set -e -o pipefail",
        "cd /work/early && find . | sort | cpio -o -H newc --quiet -R 0:0 > /work/a",
        "cd /work/root && find . | sort | cpio -o -H newc --quiet -R 1000:100 | zstd -q >> /work/a",
    ]
    inside.run(["bash", "-c", "\n".join(lines)])
    assert path == path.parent / "a"


@pytest.mark.parametrize("name", COMPRESSORS)
def test_lsinitramfs_and_lsinitrd_list_what_we_pack(inside: Sandbox, tmp_path: Path, name: str) -> None:
    writer.write(sample(), tmp_path / "main.cpio")
    unpack(tmp_path / "main.cpio", tmp_path / "main", most=1 << 30)
    (tmp_path / "early.cpio").write_bytes(archive(*EARLY))
    unpack(tmp_path / "early.cpio", tmp_path / "tree", most=1 << 30)
    (tmp_path / "main/1").rename(tmp_path / "tree/2")
    packing.repack(tmp_path / "tree", tmp_path / "a", compress=name)
    expected = names(tmp_path / "a")
    assert [segment.compressor for segment in _gone_through(tmp_path / "a")] == [compression.NONE, name]
    listed = inside.run(["bash", "/usr/bin/unmkinitramfs", "--list", "--", "/work/a"]).decode().split("\n")[:-1]
    assert listed == expected
    lines = inside.run(["bash", "/usr/bin/lsinitrd", "/work/a"]).decode().splitlines()
    rows = [line for line in lines if re.match(r"[-dlcbp][-rwxsStT]{9} ", line)]
    shown = {re.split(r" (?:\d\d:\d\d|20\d\d|1970) ", row, maxsplit=1)[1].partition(" -> ")[0] for row in rows}
    assert shown == set(expected)


def _gone_through(path: Path) -> list[segments.Segment]:
    found = []
    for segment in segments.read(path):
        for _ in segment:
            pass
        found.append(segment)
    return found


def test_gnu_cpio_sees_the_same_in_an_image_that_went_through_a_folder(inside: Sandbox, tmp_path: Path) -> None:
    theirs(inside, tmp_path / "a")
    unpack(tmp_path / "a", tmp_path / "tree", most=1 << 30)
    assert (tmp_path / "tree/2/usr/bin/third").samefile(tmp_path / "tree/2/usr/bin/tool")
    packing.repack(tmp_path / "tree", tmp_path / "b")
    (_, before), (_, after) = (_split(tmp_path / name) for name in ("a", "b"))
    listings = []
    for name, data in (("c", before), ("d", after)):
        (tmp_path / name).write_bytes(data)
        listings.append(inside.run(["bash", "-c", f"zstd -dc {name} | tee {name}.cpio | cpio -itv --quiet -n"]))
    assert listings[0] == listings[1] and b"1000" in listings[0]
    assert (tmp_path / "c.cpio").read_bytes() == (tmp_path / "d.cpio").read_bytes()
    listed = [line.split()[-1] for line in listings[0].decode().splitlines() if " -> " not in line]
    assert set(listed) <= set(names(tmp_path / "a"))


def _split(path: Path) -> tuple[bytes, bytes]:
    """The plain segment in front, and the rest."""
    _, main = _gone_through(path)
    data = path.read_bytes()
    return data[: main.offset], data[main.offset :]


def test_an_image_like_alpines_goes_through_a_folder(inside: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/fstab").write_text("none\n")
    (tmp_path / "root/init").symlink_to("bin/busybox")
    pipe = "cd root && find . | sort | cpio --quiet --renumber-inodes -o -H newc | gzip -9 > /work/a"
    inside.run(["bash", "-c", pipe])
    unpack(tmp_path / "a", tmp_path / "tree", most=1 << 30)
    packing.repack(tmp_path / "tree", tmp_path / "b")
    unpacked = [inside.run(["gzip", "-dc", name]) for name in ("a", "b")]
    assert unpacked[0] == unpacked[1]


def debian_machine(checkers: Sandbox, graph: Graph, root: Path) -> Sandbox:
    """A Debian with initramfs-tools, whose kernel is the one of the board."""
    root.mkdir()
    trees.merge([checkers.root, graph.result("linux-modules").built().root], root)
    (root / "usr/bin/sh").symlink_to("bash")
    (root / "usr/bin/cp").rename(root / "usr/bin/cp.real")
    for name, text in (("ldd", LDD), ("cp", CP)):
        (root / "usr/bin" / name).write_text(text)
        (root / "usr/bin" / name).chmod(0o755)
    (release,) = (root / "usr/lib/modules").iterdir()
    shutil.copy(graph.stages("linux")["configure"].built().root / "config", root / f"boot/config-{release.name}")
    return replace(checkers, root=root)


@pytest.mark.boot
def test_an_image_of_initramfs_tools_is_read_checked_repacked_and_booted(checkers: Sandbox, tmp_path: Path) -> None:
    graph = Graph.load(Settings.read(ROOT), BOARD)
    doit("linux", "linux-modules", "ext4", f"tools:{graph.vm}", f"BOARD={BOARD}")
    work = tmp_path / "work"
    work.mkdir()
    machine = debian_machine(checkers, graph, tmp_path / "debian")
    machine = machine.with_mounts([Mount(source=work, target="/work", writable=True)]).with_env({"TMPDIR": "/work"})
    machine.run(["bash", "-c", "mkinitramfs -o /work/initrd.img $(ls /lib/modules)"])
    made, again = work / "initrd.img", work / "again.img"
    listed = machine.run(["unmkinitramfs", "--list", "--", "/work/initrd.img"]).decode().split("\n")[:-1]
    assert listed == names(made)
    assert "find all that they need" in doit("initramfs:verify", os.fspath(made))
    assert hooks(View.read(made, keep=True))["init-bottom"] == ["/scripts/init-bottom/udev"]
    unpack(made, work / "tree", most=1 << 30)
    packing.repack(work / "tree", again)
    assert b"".join(segments.content(made)) == b"".join(segments.content(again))
    program, kvm = find_qemu(graph)
    boot = Boot(
        kernel=kernel_image(graph.kernel.built()),
        initrd=again,
        drives=(graph.media["ext4"].file,),
        cmdline=f"{graph.board.cmdline} root=LABEL=rootfs",
    )
    log = tmp_path / "log"
    found = boot_and_check(graph.board.machine, boot, program=program, kvm=kvm, log=log, setup=Setup.of(graph))
    assert found.ok, found.reason
    assert "Begin: Running /scripts/local-bottom ..." in log.read_text()
