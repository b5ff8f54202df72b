"""The network of a running node: what ip= and the board say comes true, and what they say wrong stops nothing."""

import os
import re
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pexpect
import pytest

from kiln.graph import Graph
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.vm.qemu import Boot, Machine, command, find_program, kvm_works
from tests.console import ROOT
from tests.test_boot import BOARD, OUTPUT, OWN, copy_to, doit

pytestmark = pytest.mark.boot

SECOND = ("-netdev", "user,id=second,net=10.0.3.0/24", "-device", "virtio-net-pci,netdev=second,romfile=")

# What other boards say that are otherwise the shipped one.
BOARDS = {
    "static": 'network = "static"\n'
    "[interfaces.eth0]\n"
    'address = "10.0.2.77/24"\ngateway = "10.0.2.2"\ndns = ["10.0.2.3", "9.9.9.9"]\n'
    "[interfaces.eth1]\n"
    'address = "10.0.3.77/24"\n',
    "bare": 'network = "kernel"\n[options.init]\nautologin = true\ninitramfs = "shell"\n',
    "none": 'network = "none"\n',
}


class Node:
    """A machine, and a person at its console."""

    def __init__(self, files: Path, *more: str, append: str = "", drive: Path | None = None) -> None:
        graph = Graph.load(Settings.read(ROOT), BOARD)
        vm = graph.tools[graph.vm]
        if not vm.entry():
            vm.build()
        program, machine = find_program("x86_64", vm.built().root), Machine()
        cmdline = f"{graph.board.cmdline} quiet {append}"
        if drive:
            boot = Boot(kernel=files / "bzImage", cmdline=f"{cmdline} root=/dev/vda rootwait")
            # Unlike the images that are shipped, this one is written to.
            more += ("-drive", f"if=none,id=root,format=raw,file={drive}", "-device", "virtio-blk-pci,drive=root")
        else:
            boot = Boot(kernel=files / "bzImage", initrd=files / "rootfs.cpio.zst", cmdline=cmdline)
        argv = command(machine, boot, program=program, kvm=kvm_works(machine, program), interactive=True)
        self.child = pexpect.spawn(argv[0], [*argv[1:], *more], encoding="utf-8", timeout=180)
        self.greeting = self.greet()

    def greet(self) -> str:
        """Wait for the shell; what came before it."""
        self.child.expect("# ")
        said = str(self.child.before).replace("\r", "")
        self.ask("stty cols 1000")  # so that commands are shown in one line
        return said

    def ask(self, *commands: str) -> str:
        """What the commands print."""
        self.child.sendline("; ".join([*commands, "echo end-$((40 + 2))"]))
        self.child.expect("end-42")
        text = str(self.child.before).replace("\r", "")
        self.child.expect("# ")
        return text.partition("\n")[2]

    def until(self, condition: str) -> None:
        self.ask(f"until {condition}; do sleep 0.1; done")

    def replaced(self, find: str) -> None:
        """Kill the process that `find` prints, and wait for another in its place."""
        before = self.ask(find).strip()
        self.ask(f"kill -9 {before}")
        self.until(f'{{ now=$({find}); [ "$now" ] && [ "$now" != {before} ]; }}')

    def addresses(self, interface: str) -> list[str]:
        return re.findall(r"inet (\S+)", self.ask(f"ip -4 -o addr show dev {interface}"))

    def routes(self) -> set[str]:
        return {" ".join(line.split()) for line in self.ask("ip route").splitlines() if line.startswith("default")}

    def off(self) -> str:
        """Turn the machine off, as one should; what it says."""
        self.child.sendline("poweroff")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0
        return str(self.child.before).replace("\r", "")


@contextmanager
def booted(files: Path, *more: str, append: str = "", drive: Path | None = None) -> Iterator[Node]:
    node = Node(files, *more, append=append, drive=drive)
    with closing(node.child):
        yield node


@pytest.fixture(scope="module")
def shipped() -> Path:
    """The images of the board as it is: it asks for its addresses by DHCP."""
    doit("image", f"BOARD={BOARD}")
    return OUTPUT


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Path:
    """A copy of the project where the other boards are built."""
    root = copy_to(tmp_path_factory.mktemp("others") / "project", lambda name: True)
    shutil.copy(root / f"configs/{BOARD}.toml", root / "configs/common/shipped.toml")
    for name, text in BOARDS.items():
        (root / f"configs/{name}.toml").write_text(f'include = ["shipped"]\nsshd = "none"\n{text}')
        if (root / "board" / BOARD).exists():
            shutil.copytree(root / "board" / BOARD, root / "board" / name)
        doit("image", f"BOARD={name}", root=root, env=OWN | {"PYTHONPATH": os.fspath(root)})
    return root


@pytest.fixture(scope="module")
def node(shipped: Path) -> Iterator[Node]:
    """The shipped board, with an interface that has its address."""
    with booted(shipped) as node:
        node.until("[ -e /run/network/eth0/lease ]")
        yield node


def test_dhcp_gives_address_gateway_and_name_server(node: Node) -> None:
    assert node.addresses("eth0") == ["10.0.2.15/24"]
    assert node.routes() == {"default via 10.0.2.2 dev eth0 metric 2"}
    assert node.ask("cat /etc/resolv.conf") == "nameserver 10.0.2.3\n"
    assert node.ask("/usr/lib/kiln/network ready && echo ready") == "ready\n"
    assert "eth0: 10.0.2.15/24 by DHCP" in node.ask("cat /var/log/messages")


def test_an_ipv6_address_comes_by_itself(node: Node) -> None:
    node.until("ip -6 -o addr show dev eth0 | grep -q 'fec0::.*dynamic'")
    node.until("ping -6 -c 1 fec0::2 >/dev/null")


def test_the_host_of_the_machine_is_reached_by_http(node: Node) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"pottery\n")

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert node.ask(f"wget -qO- http://10.0.2.2:{server.server_port}/") == "pottery\n"
        finally:
            server.shutdown()


def test_a_service_that_is_killed_comes_back(node: Node) -> None:
    node.replaced("pidof syslogd")
    node.until("{ logger pottery; grep -q 'root: pottery$' /var/log/messages; }")


def test_the_dhcp_client_comes_back_and_keeps_the_address(node: Node) -> None:
    node.replaced("pidof udhcpc")
    assert node.addresses("eth0") == ["10.0.2.15/24"]


def test_the_watcher_comes_back_and_finds_its_clients(node: Node) -> None:
    before = node.ask("pidof udhcpc")
    node.replaced("pgrep -f 'network watc[h]'")
    node.ask("sleep 3")  # it looks every two seconds
    assert node.ask("pidof udhcpc") == before


def test_an_interface_that_goes_and_comes_again(node: Node) -> None:
    node.ask("echo 1 >$(dirname $(readlink -f /sys/class/net/eth0/device))/remove")
    node.until("[ ! -e /run/network/eth0 ]")
    assert node.ask("cat /etc/resolv.conf", "pidof udhcpc") == ""
    node.ask("echo 1 >/sys/bus/pci/rescan")
    node.until("[ -e /run/network/eth0/lease ]")
    assert node.addresses("eth0") == ["10.0.2.15/24"]
    assert node.ask("cat /etc/resolv.conf") == "nameserver 10.0.2.3\n"


def test_nothing_dead_stays(node: Node) -> None:
    assert node.ask("sleep 2", "grep -l '^State:.Z' /proc/[0-9]*/status") == ""


def test_the_node_turns_itself_off(node: Node) -> None:
    said = re.findall("Stopping services|Unmounting file systems|Requesting system poweroff", node.off())
    assert said == ["Stopping services", "Unmounting file systems", "Requesting system poweroff"]


@pytest.fixture(scope="module")
def two(shipped: Path) -> Iterator[Node]:
    """Two interfaces, each with a word of its own."""
    words = (
        "ip=10.0.2.55:10.0.2.4:10.0.2.2:255.255.255.0:pot.example:eth0:none:10.0.2.2:9.9.9.9:10.0.2.5",
        "ip=:::::eth1:dhcp",
    )
    with booted(shipped, *SECOND, append=" ".join(words)) as node:
        node.until("[ -e /run/network/eth1/lease ]")
        yield node


def test_every_field_of_ip_counts(two: Node) -> None:
    assert two.addresses("eth0") == ["10.0.2.55/24"]
    assert "default via 10.0.2.2 dev eth0 metric 2" in two.routes()
    assert two.ask("hostname", "cat /proc/sys/kernel/domainname") == "pot\nexample\n"
    assert two.ask("cat /run/network/eth0/dns") == "nameserver 10.0.2.2\nnameserver 9.9.9.9\n"
    assert two.ask("cat /run/network/eth0/ntp") == "10.0.2.5\n"


def test_the_second_interface_has_its_own_way(two: Node) -> None:
    assert two.addresses("eth1") == ["10.0.3.15/24"]
    assert two.routes() == {"default via 10.0.2.2 dev eth0 metric 2", "default via 10.0.3.2 dev eth1 metric 3"}
    names = ["10.0.2.2", "9.9.9.9", "10.0.3.3"]
    assert two.ask("cat /etc/resolv.conf").splitlines() == [f"nameserver {name}" for name in names]


def test_names_are_asked_of_the_server_in_ip(two: Node) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        threading.Thread(target=answer, args=[server], daemon=True).start()
        said = two.ask(f"nslookup -type=a -port={server.getsockname()[1]} kiln.test")
    assert re.search(r"Name:\s+kiln\.test\nAddress: 192\.0\.2\.7\n", said)


def answer(server: socket.socket) -> None:
    """Answer one question for an address, whatever the name, with 192.0.2.7."""
    query, client = server.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 192, 0, 2, 7)
    server.sendto(query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + query[12:end] + record, client)


def test_wrong_words_are_told_of_and_the_node_is_up(shipped: Path) -> None:
    words = {
        ":::::eth7:dhcp": ["device: there is no eth7; it is set up when it appears"],
        "300.1.2.3::10.0.2.2:255.255.255.0::eth0:none": ["client: '300.1.2.3' is no IPv4 address"],
        "10.0.2.9:::255.0.255.0::eth0:none": ["mask: '255.0.255.0' is no network mask such as 255.255.255.0"],
        ":::::eth0:frob": ["autoconf: 'frob' is none of dhcp, on, any, off, none, bootp, rarp, both"],
        "10.0.3.9::10.9.9.9:255.255.255.0::eth1:none": ["gateway: 10.9.9.9 is outside of 10.0.3.9/24"],
        "::::::dhcp:1:2:3:4": [
            "field 11: '4' is too much, there are ten fields",
            *(f"{field}: '{number}' is no IPv4 address" for field, number in (("dns0", 1), ("dns1", 2), ("ntp0", 3))),
        ],
    }
    with booted(shipped, *SECOND, append=" ".join(f"ip={word}" for word in words)) as node:
        said = [line for line in node.greeting.splitlines() if line.startswith("network: ")]
        assert said == [f"network: ip={word}: {why}" for word, reasons in words.items() for why in reasons]
        node.until("[ -e /run/network/eth0/lease ]")  # as the board says
        assert node.addresses("eth0") == ["10.0.2.15/24"]
        assert node.addresses("eth1") == ["10.0.3.9/24"]
        assert node.addresses("lo") == ["127.0.0.1/8"]


def test_off_leaves_all_as_it_is(shipped: Path) -> None:
    with booted(shipped, append="ip=off") as node:
        node.ask("sleep 2")
        assert node.addresses("eth0") == []
        assert node.ask("pidof udhcpc") == ""


def test_a_board_with_addresses_of_its_own(others: Path) -> None:
    """The second interface comes late, and the command line wins for the third."""
    third = ("-netdev", "user,id=third,net=10.0.4.0/24", "-device", "virtio-net-pci,netdev=third,romfile=")
    with booted(others / "output/static", *SECOND, *third, append="ip=10.0.4.9:::255.255.255.0::eth2:none") as node:
        assert node.addresses("eth0") == ["10.0.2.77/24"]
        assert node.routes() == {"default via 10.0.2.2 dev eth0 metric 2"}
        assert node.ask("cat /etc/resolv.conf") == "nameserver 10.0.2.3\nnameserver 9.9.9.9\n"
        assert node.addresses("eth1") == ["10.0.3.77/24"]
        assert node.addresses("eth2") == ["10.0.4.9/24"]
        node.ask("device=$(basename $(readlink -f /sys/class/net/eth1/device))")
        node.ask("cd /sys/bus/virtio/drivers/virtio_net", "echo $device >unbind", "sleep 3", "echo $device >bind")
        node.until("/usr/lib/kiln/network ready && [ -e /run/network/eth1/index ]")
        assert node.addresses("eth1") == ["10.0.3.77/24"]


def test_a_bare_shell_has_the_kernels_network_and_no_services(others: Path) -> None:
    with booted(others / "output/bare", append="ip=dhcp") as node:
        assert node.addresses("eth0") == ["10.0.2.15/24"]
        assert node.ask("cat /etc/resolv.conf") == "nameserver 10.0.2.3\n"
        assert node.ask("hostname") == "kiln\n"
        assert node.ask("pidof syslogd udhcpc") == ""
        node.child.sendline("poweroff")
        node.child.expect(pexpect.EOF)


@pytest.mark.parametrize("board", ["bare", "none"])
def test_the_check_knows_boards_without_services_or_network(others: Path, board: str) -> None:
    out = doit("test:cpio", f"BOARD={board}", root=others, env=OWN | {"PYTHONPATH": os.fspath(others)})
    assert "all was well" in out


def test_a_board_without_network_has_none(others: Path) -> None:
    with booted(others / "output/none", append="ip=10.0.2.9::10.9.9.9:255.255.255.0") as node:
        assert "network:" not in node.greeting
        assert node.ask("ls -d /usr/lib/kiln/network /etc/kiln/network 2>/dev/null") == ""
        assert node.ask("pgrep -f kiln/network") == ""


def test_reboot_and_poweroff_leave_a_clean_disk(shipped: Path, tmp_path: Path, image_sandbox: Sandbox) -> None:
    """By the way: a lease that the kernel took is the DHCP client's afterwards."""
    disk = tmp_path / "rootfs.ext4"
    shutil.copyfile(shipped / "rootfs.ext4", disk)
    with booted(shipped, append="ip=dhcp", drive=disk) as node:
        assert "nameserver 10.0.2.3" in node.ask("cat /proc/net/pnp")
        assert node.addresses("eth0") == ["10.0.2.15/24"]
        node.until("[ -e /run/network/eth0/lease ]")
        assert node.addresses("eth0") == ["10.0.2.15/24"]
        assert node.routes() == {"default via 10.0.2.2 dev eth0 metric 2"}
        node.ask("echo written >/etc/note")
        # One that hears TERM, one that does not, and one that leaves a file open.
        node.ask("(trap 'echo heard >/etc/heard; exit' TERM; while :; do sleep 0.1; done) & true")
        node.ask("setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & true")
        node.ask("sleep 1000 >/etc/open & sleep 0.5")
        node.child.sendline("reboot")
        node.child.expect("Restarting system")
        node.greet()
        assert node.ask("cat /etc/note /etc/heard") == "written\nheard\n"
        node.off()
    mount = Mount(source=tmp_path, target="/work")
    assert b"clean" in image_sandbox.with_mounts([mount]).run(["e2fsck", "-n", "/work/rootfs.ext4"])
