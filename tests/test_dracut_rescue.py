"""Modules of one's own in dracut's initramfs, and boots that fail there: each is explained, and mended by hand."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pexpect
import pytest

from kiln.dracut.skeleton import STAGES
from kiln.graph import Graph
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.qemu import Boot, command, find_program, kvm_works
from tests.test_boot import OWN, copy_to, doit

pytestmark = pytest.mark.boot

BOARD = "pot"
# Of a size that has a copy of the superblock behind the first 128 MiB.
CONFIG = """\
include = ["shipped"]
root_size = "200M"
dracut = []
initramfs_must = []

[qemu]
forward = []
"""
MODULES = f"board/{BOARD}/dracut/modules.d"

# What a user would write into the hooks of a module; a word on the command line chooses what fails.
COMMANDS = {
    "initqueue-settled": ": > /run/glaze",
    "initqueue-finished": "[ -e /run/glaze ] || return 1",
    "pre-mount": "getargbool 0 glaze.calls && fire_the_kiln\ngetargbool 0 glaze.exits && exit 1",
    "pre-pivot": "getargbool 0 glaze.dies && die 'the glaze is gone'",
}
# A root that the device mapper makes, without the rules of udev for it.
LINEAR = """\
getarg root=/dev/mapper/linear > /dev/null || return 0
size=$(cat /sys/class/block/vda/size)
[ -e /dev/mapper/linear ] || DM_DISABLE_UDEV=1 dmsetup create linear --table "0 $size linear /dev/vda 0"
"""
ROOT_SHELL = "kiln:~# "


def run(project: Path, *words: str) -> str:
    return doit(*words, f"BOARD={BOARD}", root=project, env=OWN | {"PYTHONPATH": os.fspath(project)})


def insert(project: Path, module: str, commands: dict[str, str]) -> None:
    for hook, text in commands.items():
        file = project / MODULES / f"90{module}" / f"{module}-{hook}.sh"
        before, place, after = file.read_text().partition("# Your commands")
        assert place
        file.write_text(before + text + after[after.index("\n") :])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, whose board has modules of its own in its initramfs."""
    root = copy_to(tmp_path_factory.mktemp("rescue") / "project", lambda name: True)
    shutil.copy(root / "configs/qemu-x86_64-dracut.toml", root / "configs/common/shipped.toml")
    (root / f"configs/{BOARD}.toml").write_text(CONFIG)
    for name in ("glaze", "linear"):
        assert f"{MODULES}/90{name}/: module-setup.sh" in run(root, "new-dracut-module", name)
    insert(root, "glaze", COMMANDS)
    insert(root, "linear", {"initqueue-settled": LINEAR})
    (root / f"board/{BOARD}/dracut.conf.d/programs.conf").write_text('install_items+=" /usr/bin/dmsetup "\n')
    run(root, "dracut:lint")
    run(root, "initramfs", "initramfs:emergency", "ext4")
    return root


class Machine:
    """A machine that starts by dracut's initramfs, and a person at its console."""

    def __init__(self, project: Path, append: str, *, profile: str, drive: Path | None) -> None:
        graph = Graph.load(Settings.read(project, {}), BOARD)
        vm = graph.tools[graph.vm].entry()
        program, machine = find_program("x86_64", vm.root if vm else None), graph.board.machine
        files = project / "output" / BOARD
        boot = Boot(
            kernel=kernel_image(graph.kernel.built()),
            initrd=files / f"{profile}.cpio.zst",
            drives=(drive or files / "rootfs.ext4",),
            cmdline=f"{graph.board.cmdline} rd.retry=4 {append}",
        )
        argv = command(machine, boot, program=program, kvm=kvm_works(machine, program), interactive=True)
        self.child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", timeout=120)
        self._project = project
        self.log = project / f"{re.sub('[^a-z]+', '-', append)}.log"
        self._file = self.log.open("w")
        self.child.logfile_read = self._file

    def until(self, words: str) -> str:
        """Wait for words; what came before them."""
        self.child.expect_exact(words)
        return str(self.child.before).replace("\r", "")

    def say(self, command: str) -> None:
        self.child.sendline(command)

    def close(self) -> None:
        self.child.close()
        self._file.close()

    def diagnosis(self) -> str:
        """What is said of all that this machine has printed."""
        self._file.flush()
        with pytest.raises(AssertionError) as caught:
            run(self._project, "diagnose", os.fspath(self.log))
        assert "Traceback" not in str(caught.value)
        return str(caught.value)


@contextmanager
def booted(project: Path, append: str, *, profile: str = "initramfs", drive: Path | None = None) -> Iterator[Machine]:
    machine = Machine(project, append, profile=profile, drive=drive)
    with closing(machine):
        yield machine


def test_every_hook_of_a_module_runs_in_its_turn(project: Path) -> None:
    with booted(project, "root=LABEL=rootfs") as machine:
        said = machine.until(ROOT_SHELL)
    assert re.findall(r"dracut: glaze: (\S+)", said) == list(STAGES)


def test_a_root_that_is_not_there(project: Path) -> None:
    with booted(project, "root=LABEL=nosuch rd.retry=8 quiet") as machine:
        waited = machine.until("dracut:/# ")
        assert re.search(r"dracut: waiting for /dev/disk/by-label/nosuch: \d+ s, try \d+ of 16\n", waited)
        machine.say("ln -s /dev/vda /dev/disk/by-label/nosuch; exit")
        machine.until(ROOT_SHELL)
        told = machine.diagnosis()
    assert "root=LABEL=nosuch" in told


def test_a_file_system_whose_superblock_is_gone(project: Path, tmp_path: Path) -> None:
    disk = tmp_path / "rootfs.ext4"
    shutil.copyfile(project / f"output/{BOARD}/rootfs.ext4", disk)
    with disk.open("r+b") as file:
        file.write(bytes(4096))
    with booted(project, "root=/dev/vda", profile="initramfs-emergency", drive=disk) as machine:
        machine.until("(Repair filesystem):/# ")
        machine.say("e2fsck -y -b 32768 /dev/vda")
        machine.until("FILE SYSTEM WAS MODIFIED")
        machine.say("exit")
        machine.until(ROOT_SHELL)
        told = machine.diagnosis()
    assert "`e2fsck -y /dev/vda`, with -b 32768" in told


def test_a_file_system_that_the_kernel_does_not_know(project: Path, tmp_path: Path) -> None:
    disk = tmp_path / "zeros"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    with booted(project, "root=/dev/vda rootfstype=xfs", drive=disk) as machine:
        machine.until("(Repair filesystem):/# ")
        told = machine.diagnosis()
    assert "CONFIG_XFS_FS is not set" in told


def test_a_driver_that_nobody_loaded(project: Path) -> None:
    with booted(project, "root=/dev/mapper/linear rd.driver.blacklist=dm_mod rd.skipfsck") as machine:
        machine.until("dracut:/# ")
        told = machine.diagnosis()
        machine.say("modprobe dm_mod")
        machine.say('DM_DISABLE_UDEV=1 dmsetup create linear --table "0 409600 linear /dev/vda 0"')
        machine.say("exit")
        machine.until(ROOT_SHELL)
    assert "modprobe dm_mod" in told


def test_a_hook_that_ends_init(project: Path) -> None:
    with booted(project, "root=LABEL=rootfs glaze.exits") as machine:
        machine.until("dracut:/# ")
        told = machine.diagnosis()
    with booted(project, "root=LABEL=rootfs glaze.exits rd.break=pre-mount") as machine:
        machine.until("pre-mount:/# ")
        machine.say("rm /var/lib/dracut/hooks/pre-mount/50-glaze-pre-mount.sh; exit")
        machine.until(ROOT_SHELL)
    assert "a hook says `exit`" in told
    assert "the last one that spoke is glaze: pre-mount" in told


def test_a_hook_that_gives_up(project: Path) -> None:
    with booted(project, "root=LABEL=rootfs glaze.dies rd.shell") as machine:
        machine.until("dracut:/# ")
        told = machine.diagnosis()
    assert "the glaze is gone" in told


def test_a_hook_that_calls_what_is_not_there(project: Path) -> None:
    with booted(project, "root=LABEL=rootfs glaze.calls") as machine:
        machine.until(ROOT_SHELL)
        told = machine.diagnosis()
    assert "inst_multiple fire_the_kiln" in told
