from pathlib import Path

import pytest

from kiln import board
from kiln.board import Board
from kiln.errors import KilnError
from kiln.image.accounts import User
from kiln.interface import Interface
from kiln.recipe.load import load
from kiln.vm.qemu import Machine
from tests.project import Project

PIN = 'Debian("tiny_1.tar.gz", sha256="' + "0" * 64 + '")'
OPTIONS = (
    "options={'fast': Option(default=False, doc=''), 'level': Option(default='low', doc='', choices=('low', 'high'))}"
)

FULL = """\
summary = "a board"
arch = "x86_64"
packages = ["tiny"]
hostname = "tiny-host"
cmdline = "console=ttyS0"
root_size = "64M"

[versions]
tiny = "2"

[kconfig]
linux = ["net", "base"]

[options.tiny]
fast = true

[users.root]
uid = 0
gid = 0
home = "/root"

[users.kim]
uid = 1000
gid = 1000
home = "/home/kim"
groups = ["video"]

[owners]
"etc/motd" = "tiny"

[qemu]
memory = 512
devices = ["virtio-gpu"]
"""


@pytest.fixture(autouse=True)
def recipe(project: Project) -> None:
    project.recipe("tiny", f"source={PIN}", f"versions={{'2': {PIN}}}", OPTIONS)


def read(project: Project, text: str) -> Board:
    project.file("configs/test.toml", text)
    for name in ("base", "net", "unused"):
        project.file(f"board/common/linux/{name}.config", "")
    return board.load(project.root, "test", load(project.root / "packages"))


def test_a_board_is_what_its_file_says(project: Project) -> None:
    assert read(project, FULL) == Board(
        name="test",
        root=project.root,
        summary="a board",
        arch=read(project, FULL).arch,
        packages=("tiny",),
        hostname="tiny-host",
        cmdline="console=ttyS0",
        versions={"tiny": "2"},
        kconfig={"linux": ("net", "base")},
        options={"linux": {}, "tiny": {"fast": True, "level": "low"}},
        users=(
            User(name="root", uid=0, gid=0, home="/root"),
            User(name="kim", uid=1000, gid=1000, home="/home/kim", groups=("video",)),
        ),
        owners={"etc/motd": "tiny"},
        root_size=64 << 20,
        machine=Machine(memory=512, devices=("virtio-gpu",)),
    )


def test_little_must_be_said(project: Project) -> None:
    plain = read(project, 'summary = "a board"\narch = "x86_64"\npackages = []\n')
    assert (plain.hostname, plain.cmdline, plain.root_size) == ("test", "", None)
    assert plain.options["tiny"] == {"fast": False, "level": "low"}
    assert [user.name for user in plain.users] == ["root"]
    assert plain.machine == Machine()
    assert (plain.triple, plain.cc) == ("x86_64-linux-musl", "x86_64-linux-musl-gcc")
    assert plain.files == project.root / "board/test"


NETWORK = """
network = "static"
sshd = "dropbear"
loader = "none"
private_keys = ["etc/key"]
groups = {tty = 5}
interfaces.eth0 = {address = "10.0.2.15/24", gateway = "10.0.2.2", dns = ["10.0.2.3"]}
"""


def test_a_board_on_a_network(project: Project) -> None:
    project.recipe("dropbear")
    found = read(project, FULL.replace("\n[versions]", NETWORK + "\n[versions]"))
    assert found.packages == ("tiny", "dropbear")
    assert (found.network, found.loader, found.private_keys, found.groups) == (
        "static",
        "none",
        ("etc/key",),
        {"tty": 5},
    )
    assert found.interfaces == (Interface(name="eth0", address="10.0.2.15/24", gateway="10.0.2.2", dns=("10.0.2.3",)),)


def test_the_keys_of_a_user_are_read_from_a_file(project: Project) -> None:
    project.file("board/test/kim.pub", "ssh-ed25519 AAAAC3Nz kim\n")
    keys = 'authorized_keys = "board/test/kim.pub"'
    found = read(project, FULL.replace('groups = ["video"]', keys))
    assert {user.name: user.authorized_keys for user in found.users} == {
        "root": "",
        "kim": "ssh-ed25519 AAAAC3Nz kim\n",
    }
    project.file("board/test/kim.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(KilnError, match=r"configs/test.toml:22, users.kim: authorized_keys: this is no public key"):
        read(project, FULL.replace('groups = ["video"]', keys))


def test_another_processor_has_another_cpu_and_no_syslinux(project: Project) -> None:
    found = read(project, FULL.replace("x86_64", "aarch64"))
    assert (found.machine.cpu, found.loader, found.triple) == ("cortex-a72", "none", "aarch64-linux-musl")
    with pytest.raises(KilnError, match=r"configs/test.toml:4, loader: syslinux starts PCs, not aarch64"):
        read(project, FULL.replace("x86_64", "aarch64").replace("hostname", 'loader = "syslinux"\nhostname'))


def test_what_is_included_lies_below_the_boards_own(project: Project) -> None:
    project.file("configs/common/node.toml", 'include = ["base"]\nhostname = "node"\n[users.kim]\nshell = "/bin/x"\n')
    project.file("configs/common/base.toml", 'hostname = "base"\ncmdline = "quiet"\npackages = []\n')
    found = read(project, 'include = ["node"]\n' + FULL.replace('cmdline = "console=ttyS0"\n', ""))
    assert (found.hostname, found.cmdline, found.packages) == ("tiny-host", "quiet", ("tiny",))
    assert [(user.name, user.home, user.shell) for user in found.users if user.name == "kim"] == [
        ("kim", "/home/kim", "/bin/x")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hostnam = 'x'", "configs/common/node.toml:1, hostnam: unknown key"),
        ("[users.kim]\nshell = 1", "configs/common/node.toml:2, users.kim.shell: expected a string"),
        ("hostname = ", "configs/common/node.toml: Invalid value"),
        ('include = ["node"]', "configs/.*, include: configs/common/node.toml is included twice"),
    ],
)
def test_a_mistake_in_what_is_included_is_told_where_it_is(project: Project, text: str, message: str) -> None:
    project.file("configs/common/node.toml", text)
    with pytest.raises(KilnError, match=f"^{message}"):
        read(project, 'include = ["node"]\n' + FULL)


def test_the_board_that_is_not_there(project: Project) -> None:
    project.board(packages=[], name="qemu-x86_64")
    with pytest.raises(KilnError, match=r"^BOARD: there is no board 'qemu-x86'\n  did you mean qemu-x86_64"):
        board.load(project.root, "qemu-x86", {})
    assert board.names(project.root) == ["qemu-x86_64", "test"]


def test_a_name_cannot_lead_out_of_the_folder(project: Project) -> None:
    with pytest.raises(KilnError, match="there is no board"):
        board.load(project.root, "../configs/test", {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"a board"', '"a board', "configs/test.toml: .* line 1"),
        ("hostname =", "hostnam =", "configs/test.toml:4, hostnam: unknown key 'hostnam'\n  did you mean hostname"),
        ('summary = "a board"\n', "", "configs/test.toml:1: the key 'summary' is missing"),
        ('"console=ttyS0"', "115200", "configs/test.toml:5, cmdline: expected a string, found 115200"),
        ('["tiny"]', '"tiny"', "configs/test.toml:3, packages: expected a list of strings, found 'tiny'"),
        ('["tiny"]', "[1]", r"configs/test.toml:3, packages: expected a list of strings, found \[1\]"),
        ('["tiny"]', '["tyni"]', "configs/test.toml:3, packages: there is no package 'tyni'\n  did you mean tiny"),
        ('"x86_64"', '"x86"', "configs/test.toml:2, arch: unknown architecture 'x86'\n  did you mean x86_64"),
        ('"64M"', '"64MB"', "configs/test.toml:6, root_size: '64MB' is no size\n  .*such as 64M"),
        ('"64M"', '"0M"', "configs/test.toml:6, root_size: '0M' is no size"),
        ('tiny = "2"', 'tini = "2"', "configs/test.toml:9, versions.tini: there is no package 'tini'"),
        ('tiny = "2"', 'tiny = "3"', "configs/test.toml:9, versions.tiny: tiny has no version '3'\n  known: 1, 2"),
        ("linux = [", "linus = [", "configs/test.toml:12, kconfig.linus: there is no package 'linus'\n.*linux"),
        ("options.tiny", "options.tyni", "configs/test.toml:14, options.tyni: there is no package 'tyni'"),
        ("fast = true", "fats = true", "configs/test.toml:15, options.tiny.fats: tiny has no option 'fats'\n.*fast"),
        ("fast = true", "fast = 1", "configs/test.toml:15, options.tiny.fast: expected true or false, found 1"),
        ("fast = true", 'level = "hi"', "configs/test.toml:15, options.tiny.level: 'hi' is not a choice\n.*high"),
        ("uid = 1000", 'uid = "kim"', "configs/test.toml:23, users.kim.uid: expected a whole number, found 'kim'"),
        ("uid = 1000", "uid = true", "configs/test.toml:23, users.kim.uid: expected a whole number, found True"),
        ("uid = 1000\n", "", "configs/test.toml:22, users.kim: the key 'uid' is missing"),
        ("gid = 1000", 'authorized_keys = "no"', "configs/test.toml:24, users.kim.authorized_keys: cannot read no: "),
        ("[owners]", "[groups]\ntty = 'five'\n[owners]", "configs/test.toml:29, groups.tty: expected a whole number"),
        ('groups = ["video"]', 'shel = "/bin/sh"', "configs/test.toml:26, users.kim.shel: unknown key.*\n.*shell"),
        ('home = "/home/kim"', 'home = "kim"', "configs/test.toml:22, users.kim: home 'kim' is not an absolute path"),
        ("memory = 512", 'memory = "512M"', "configs/test.toml:32, qemu.memory: expected a whole number"),
        ("memory = 512", "memroy = 512", "configs/test.toml:32, qemu.memroy: unknown key 'memroy'\n.*memory"),
        ('["virtio-gpu"]', '"gpu"', "configs/test.toml:33, qemu.devices: expected a list of strings"),
        ('["virtio-gpu"]', '[]\nbus = "isa"', "configs/test.toml:31, qemu: there is no bus 'isa'\n  known: mmio, pci"),
        ('["virtio-gpu"]', '[]\nforward = ["22"]', "configs/test.toml:31, qemu: '22' is no pair of ports"),
        ('["virtio-gpu"]', '[]\nforward = ["0:22"]', "configs/test.toml:31, qemu: '0:22' is no pair of ports"),
        ("[owners]", "[[owners]]", "configs/test.toml:28, owners: expected a table"),
        ("hostname =", 'sshd = "opensh"\nhostname =', "configs/test.toml:4, sshd: 'opensh' is not a choice\n.*openssh"),
        (
            "hostname =",
            'early = ["tini"]\nhostname =',
            "configs/test.toml:4, early: there is no package 'tini'\n.*tiny",
        ),
        (
            "hostname =",
            'initramfs = "none"\nearly = ["tiny"]\nhostname =',
            "configs/test.toml:5, early: there is no initramfs that it could lie in front of",
        ),
        ("hostname =", 'loader = "grub"\nhostname =', "configs/test.toml:4, loader: 'grub' is not a choice"),
        ("hostname =", 'network = "wifi"\nhostname =', "configs/test.toml:4, network: 'wifi' is not a choice"),
        ("hostname =", 'network = "static"\nhostname =', "configs/test.toml:4, network: .* go together"),
        (
            "[owners]",
            '[interfaces.eth0]\naddress = "10.0.2.15"\n[owners]',
            "configs/test.toml:28, interfaces.eth0: '10.0.2.15' does not say how long",
        ),
        (
            "[owners]",
            '[interfaces.eth0]\naddress = "10.0.2.15/24"\ngateway = "10.0.3.1"\n[owners]',
            "configs/test.toml:28, interfaces.eth0: the gateway 10.0.3.1 is not in the network 10.0.2.0/24",
        ),
        (
            "[owners]",
            '[interfaces.eth0]\naddress = "10.0.2.15/24"\ndns = ["ten"]\n[owners]',
            "configs/test.toml:28, interfaces.eth0: .*'ten'",
        ),
        ("hostname =", 'include = ["nod"]\nhostname =', "configs/test.toml:4, include: there is no .*/nod.toml\n"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(project: Project, old: str, new: str, message: str) -> None:
    assert old in FULL
    with pytest.raises(KilnError, match=f"^{message}"):
        read(project, FULL.replace(old, new, 1))


def test_fragments_are_those_chosen_in_order_and_then_the_boards_own(project: Project) -> None:
    for name in ("b", "a"):
        project.file(f"board/test/linux/{name}.config", "")
    found = read(project, FULL).fragments("linux")
    assert [path.relative_to(project.root / "board").as_posix() for path in found] == [
        "common/linux/net.config",
        "common/linux/base.config",
        "test/linux/a.config",
        "test/linux/b.config",
    ]
    assert read(project, FULL).fragments("tiny") == []


def test_an_unknown_fragment(project: Project) -> None:
    with pytest.raises(
        KilnError, match=r"configs/test.toml:12, kconfig.linux: there is no board/common/linux/nett.config\n.*net"
    ):
        read(project, FULL.replace('"net"', '"nett"'))


def test_overlays_are_the_common_one_and_then_the_boards_own(project: Project) -> None:
    assert read(project, FULL).overlays == []
    own, common = project.root / "board/test/overlay", project.root / "board/common/overlay"
    own.mkdir(parents=True)
    assert read(project, FULL).overlays == [own]
    common.mkdir(parents=True)
    assert read(project, FULL).overlays == [common, own]


def test_the_boards_of_this_project_are_whole() -> None:
    root = Path(__file__).parent.parent
    recipes = load(root / "packages")
    assert board.names(root)
    for name in board.names(root):
        assert board.load(root, name, recipes).fragments("linux")
