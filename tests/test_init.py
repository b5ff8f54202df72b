"""What init's scripts make of the kernel's words: of the network, of a root that is only read, and of a rescue."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.board import Board
from kiln.errors import KilnError
from kiln.graph import KERNEL, Graph
from kiln.image import cpio, squashfs
from kiln.interface import Interface
from kiln.kernel import kernel_image
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.tools import Tools
from kiln.vm.qemu import Boot, command, find_program, kvm_works
from packages.init.recipe import words
from tests.console import Console

ROOT = Path(__file__).parent.parent
FILES = ROOT / "packages/init/files"

pytestmark = pytest.mark.sandbox

# Runs ip-words as a boot does: the board's words, the kernel's command line.
Read = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture(scope="module")
def board() -> Board:
    return Graph.load(Settings.read(ROOT), "qemu-x86_64").board


@pytest.fixture(scope="module")
def busybox() -> Path:
    """The folder with BusyBox and its links."""
    graph = Graph.load(Settings.read(ROOT), "qemu-x86_64")
    if not graph.result("busybox").entry():
        env = dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)}
        subprocess.run([sys.executable, "-m", "doit", "busybox"], cwd=ROOT, env=env, check=True)
        graph = Graph.load(Settings.read(ROOT), "qemu-x86_64")
    return graph.result("busybox").built().root


@pytest.fixture
def read(tmp_path: Path, tools: Tools, busybox: Path) -> Read:
    def _read(cmdline: str, *, board: str = "") -> tuple[list[str], list[str]]:
        root = tmp_path / "root"
        for name in ("dev", "proc", "tmp", "run", "sys/class/net/eth0", "etc/kiln", "usr/lib/kiln"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "usr/bin", "usr/sbin"):
            (root / name).mkdir(exist_ok=True)
        (root / "etc/kiln/network").write_text(board)
        for name, text in (("cmdline", f"{cmdline}\n"), ("kmsg", "")):
            (tmp_path / name).write_text(text)
        mounts = [Mount(source=busybox / name, target=f"/{name}") for name in ("bin", "sbin", "usr/bin", "usr/sbin")]
        mounts += [
            Mount(source=FILES, target="/usr/lib/kiln"),
            Mount(source=root / "run", target="/run", writable=True),
        ]
        mounts += [Mount(source=tmp_path / "cmdline", target="/proc/cmdline")]
        mounts += [Mount(source=tmp_path / "kmsg", target="/dev/kmsg", writable=True)]
        sandbox = Sandbox(root=root, launcher=tools.sandbox("image").launcher).with_mounts(mounts)
        lines = sandbox.run(["/usr/lib/kiln/ip-words"]).decode().splitlines()
        said = (tmp_path / "kmsg").read_text().splitlines()
        assert all(line.startswith("<3>network: ip=") for line in said)
        return lines, [line.removeprefix("<3>network: ip=") for line in said]

    return _read


@pytest.mark.parametrize(
    ("word", "line"),
    [
        (
            "10.0.2.15:10.0.2.4:10.0.2.2:255.255.255.0:pot.example:eth0:none:10.0.2.3:9.9.9.9:10.0.2.5",
            "21:10.0.2.15:10.0.2.4:10.0.2.2:24:pot.example:eth0:static:10.0.2.3:9.9.9.9:10.0.2.5:",
        ),
        ("10.0.2.15", "2:10.0.2.15:::8:::static::::"),
        ("172.16.0.9:::::eth0:off", "21:172.16.0.9:::16::eth0:static::::"),
        ("192.168.7.9::192.168.7.1:255.255.255.128", "2:192.168.7.9::192.168.7.1:25:::static::::"),
        ("10.0.2.15:::255.255.255.255", "2:10.0.2.15:::32:::static::::"),
        ("10.0.2.15:::255.254.0.0:::dhcp", "2:10.0.2.15:::15:::static::::"),
        *((word, "2:::::::dhcp::::") for word in ("dhcp", "on", "any", "0.0.0.0::::::dhcp")),
        *((word, "2:::::::none::::") for word in ("off", "none", "")),
        *((word, "2:::::::kernel::::") for word in ("bootp", "rarp", "both")),
        ("::::pot:eth0:dhcp", "21:::::pot:eth0:dhcp::::"),
        ("::::::dhcp:9.9.9.9", "2:::::::dhcp:9.9.9.9:::"),
        ("dhcp,1,a:b.c", "2:::::::dhcp::::01613a622e63"),
        (":::::eth0:dhcp,255,id", "21::::::eth0:dhcp::::ff6964"),
    ],
)
def test_each_form_of_the_word(read: Read, word: str, line: str) -> None:
    assert read(f"quiet ip={word} panic=-1") == ([line], [])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("300.1.2.3:::255.0.0.0", "client: '300.1.2.3' is no IPv4 address"),
        ("300.1.2.3", "client: '300.1.2.3' is no IPv4 address"),
        ("10.0.2:::255.0.0.0", "client: '10.0.2' is no IPv4 address"),
        ("10.0.2.15.1:::", "client: '10.0.2.15.1' is no IPv4 address"),
        ("10.0.2.015:::", "client: '10.0.2.015' is no IPv4 address"),
        ("10.0.2.15:::255.0.255.0", "mask: '255.0.255.0' is no network mask such as 255.255.255.0"),
        ("10.0.2.15:::24", "mask: '24' is no IPv4 address"),
        ("10.0.2.15:::255.255.254.256", "mask: '255.255.254.256' is no IPv4 address"),
        (":::::a/b:dhcp", "device: 'a/b' cannot be an interface's name"),
        (":::::sixteen-letters-:dhcp", "device: 'sixteen-letters-' cannot be an interface's name"),
        ("banana", "autoconf: 'banana' is none of dhcp, on, any, off, none, bootp, rarp, both"),
        ("dhcpx", "autoconf: 'dhcpx' is none of dhcp, on, any, off, none, bootp, rarp, both"),
        ("dhcp,one,x", "autoconf: 'one' is no type of a client identifier, 0 to 255"),
        (":::::eth0:none:::9.9.9.9:more", "field 11: 'more' is too much, there are ten fields"),
    ],
)
def test_a_word_that_is_wrong_is_told_of_and_left_out(read: Read, word: str, said: str) -> None:
    assert read(f"ip={word}") == ([], [f"{word}: {said}"])


@pytest.mark.parametrize(
    ("word", "line", "said"),
    [
        ("10.0.2.15:x::255.0.0.0", "2:10.0.2.15:::8:::static::::", "server: 'x' is no IPv4 address"),
        ("10.0.2.15::10.1:255.0.0.0", "2:10.0.2.15:::8:::static::::", "gateway: '10.1' is no IPv4 address"),
        (
            "10.0.2.15::10.9.9.9:255.255.255.0",
            "2:10.0.2.15:::24:::static::::",
            "gateway: 10.9.9.9 is outside of 10.0.2.15/24",
        ),
        ("::::p&t::dhcp", "2:::::::dhcp::::", "host: 'p&t' is no host name"),
        (":::::eth7:dhcp", "21::::::eth7:dhcp::::", "device: there is no eth7; it is set up when it appears"),
        ("::::::dhcp:9.9.9:8.8.8.8", "2:::::::dhcp::8.8.8.8::", "dns0: '9.9.9' is no IPv4 address"),
        ("::::::dhcp::dns", "2:::::::dhcp::::", "dns1: 'dns' is no IPv4 address"),
        ("::::::dhcp:::-1", "2:::::::dhcp::::", "ntp0: '-1' is no IPv4 address"),
    ],
)
def test_a_wrong_field_that_can_be_spared_leaves_the_rest(read: Read, word: str, line: str, said: str) -> None:
    assert read(f"ip={word}") == ([line], [f"{word}: {said}"])


def test_the_command_line_comes_after_the_board_and_a_named_device_after_all(read: Read) -> None:
    board = "10.0.0.1:::255.0.0.0::eth0:none\nnone\n"
    lines, said = read("ip=:::::eth0:dhcp ip=off splash ip=:::::eth0:none -- ip=on", board=board)
    assert lines == [
        "1:::::::none::::",
        "11:10.0.0.1:::8::eth0:static::::",
        "2:::::::none::::",
        "21::::::eth0:dhcp::::",
        "21::::::eth0:none::::",
    ]
    assert said == []


def test_nothing_is_expanded_on_the_way(read: Read) -> None:
    assert read("ip=::::*::dhcp * ip=$(id)") == (
        ["2:::::::dhcp::::"],
        [
            "::::*::dhcp: host: '*' is no host name",
            "$(id): autoconf: '$(id)' is none of dhcp, on, any, off, none, bootp, rarp, both",
        ],
    )


def test_a_boards_interfaces_are_words_too(read: Read, board: Board) -> None:
    eth0 = Interface(name="eth0", address="10.0.2.15/20", gateway="10.0.2.2", dns=("9.9.9.9", "8.8.8.8"))
    made = words(replace(board, network="static", interfaces=(eth0, Interface(name="eth1", address="10.1.0.1/8"))))
    lines, said = read("quiet", board="".join(f"{word}\n" for word in made))
    assert lines == [
        "11:10.0.2.15::10.0.2.2:20::eth0:static:9.9.9.9:8.8.8.8::",
        "11:10.1.0.1:::8::eth1:static::::",
    ]
    assert said == ["10.1.0.1:::255.0.0.0::eth1:none: device: there is no eth1; it is set up when it appears"]


def test_a_board_without_interfaces_of_its_own(board: Board) -> None:
    assert words(replace(board, network="dhcp")) == ["dhcp"]
    assert words(replace(board, network="kernel")) == []


def test_a_third_name_server_is_refused(board: Board) -> None:
    eth0 = Interface(name="eth0", address="10.0.2.15/24", dns=("9.9.9.9", "8.8.8.8", "1.1.1.1"))
    with pytest.raises(KilnError, match="more than two name servers for eth0"):
        words(replace(board, network="static", interfaces=(eth0,)))


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        pytest.skip("needs shellcheck")
    scripts = [ROOT / "packages" / name / "files" / name for name in ("check", "root-server")]
    subprocess.run([program, *FILES.iterdir(), *scripts], check=True)


@pytest.fixture(scope="module", params=["cpio", "squashfs"])
def console(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Console:
    """The real board with ``kiln.rescue``, started from a file system of that kind, at its first prompt."""
    graph = Graph.load(Settings.read(ROOT), "qemu-x86_64")
    env = dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)}
    names = [*graph.runtime(), KERNEL, f"tools:{graph.vm}", "rootfs"]
    subprocess.run([sys.executable, "-m", "doit", *names], cwd=ROOT, env=env, check=True)
    graph = Graph.load(Settings.read(ROOT), "qemu-x86_64")
    place, cmdline = tmp_path_factory.mktemp("boot") / request.param, f"{graph.board.cmdline} quiet kiln.rescue"
    if request.param == "cpio":
        cpio.write(graph.rootfs.manifest(), place)
        boot = Boot(kernel=kernel_image(graph.result(KERNEL).built()), initrd=place, cmdline=cmdline)
    else:
        scratch, sandbox = tmp_path_factory.mktemp("scratch"), tools.sandbox("image")
        squashfs.write(graph.rootfs.manifest(), place, sandbox=sandbox, scratch=scratch)
        boot = Boot(
            kernel=kernel_image(graph.result(KERNEL).built()), drives=(place,), cmdline=f"{cmdline} root=/dev/vda"
        )
    machine = replace(graph.board.machine, forward=())
    program = find_program("x86_64", graph.tools[graph.vm].built().root)
    argv = command(machine, boot, program=program, kvm=kvm_works(machine, program), interactive=True)
    return Console(argv)


@pytest.mark.boot
def test_a_rescue_shell_comes_before_all_services_and_the_boot_goes_on(console: Console) -> None:
    said = console.until("# ")
    assert "A root shell before network and services" in said
    assert "can't access tty" not in said
    assert console.ask("id -u; hostname; pgrep syslogd; ip addr show lo | grep -c 127") == ["0", "kiln", "0"]
    assert "Stopped" in "".join(console.ask("sleep 99 & kill -STOP %1; sleep 1; jobs; kill -KILL %1; wait"))
    (root,) = console.ask("awk '$2 == \"/\" { type = $3 } END { print type }' /proc/mounts")
    written = "for folder in / /etc /root /usr /var/log; do touch $folder/new && echo $folder; done"
    own = ["/etc", "/root", "/var/log"]
    assert console.ask(f"({written}) 2>/dev/null") == (
        own if root == "squashfs" else ["/", "/etc", "/root", "/usr", "/var/log"]
    )
    told = "The root (squashfs) is only read: changes of /etc /root /var are in memory"
    assert (told in said) == (root == "squashfs")
    assert console.ask("stat -c %a /etc /root /var /etc/shadow") == ["755", "700", "755", "600"]
    console.child.sendline("exit")
    console.until("# ")
    assert console.ask("until pgrep syslogd; do sleep 1; done | wc -l; cat /etc/hostname") == ["1", "kiln"]
    assert "Unmounting file systems" in console.end("poweroff")
