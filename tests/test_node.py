"""The image as a node on a network: people log in with real clients, copy files, and two of them talk."""

import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kiln.graph import Graph
from kiln.sandbox import Mount
from tests.console import ROOT
from tests.guest import Clients, Guest, Login, build, free_port
from tests.test_boot import copy_to

pytestmark = pytest.mark.boot

KINDS = ("ed25519", "ecdsa", "rsa")
USERS = """
[users.root]
authorized_keys = "board/node/root.pub"

[users.kim]
uid = 1000
home = "/home/kim"
authorized_keys = "board/node/kim.pub"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in another folder, with all that was built."""
    return copy_to(tmp_path_factory.mktemp("node") / "project", lambda name: True)


@pytest.fixture(scope="module")
def clients(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    graph = build(root, "qemu-x86_64")
    return Clients(graph.tools["clients"].built().root, tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def keys(clients: Clients) -> dict[str, Path]:
    return {kind: clients.key(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def graph(root: Path, keys: dict[str, Path]) -> Callable[..., Graph]:
    """Builds a board whose users have our keys."""
    texts = {kind: path.with_suffix(".pub").read_text() for kind, path in keys.items()}
    folder = root / "board/node"
    folder.mkdir(parents=True)
    (folder / "root.pub").write_text(texts["ed25519"])
    (folder / "kim.pub").write_text("".join(texts.values()))

    def _graph(board: str = "qemu-x86_64", *, sshd: str = "openssh", libc: str = "static") -> Graph:
        text = (ROOT / f"configs/{board}.toml").read_text()
        name = f"{board}-{sshd}-{libc}"
        (root / f"configs/{name}.toml").write_text(f'sshd = "{sshd}"\nlibc = "{libc}"\n{text}{USERS}')
        return build(root, name)

    return _graph


def has_all_keys(login: Login) -> None:
    """Wait until sshd has its RSA key: it starts again for that, and turns away who comes just then."""
    login.ask(
        "until [ -s /etc/ssh/ssh_host_rsa_key ]; do sleep 1; done;"
        "until ssh-keyscan -T 60 -t rsa 127.0.0.1 2>/dev/null | grep -q ssh-rsa; do sleep 1; done"
    )


@pytest.fixture(scope="module")
def node(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    guest = Guest(graph(), tmp_path_factory.mktemp("guest") / "log")
    guest.answers()
    has_all_keys(Login(clients, guest, "root", keys["ed25519"]))
    yield guest
    guest.off()


@pytest.fixture(scope="module")
def kim(clients: Clients, node: Guest, keys: dict[str, Path]) -> Login:
    return Login(clients, node, "kim", keys["ed25519"])


@pytest.fixture(scope="module")
def admin(clients: Clients, node: Guest, keys: dict[str, Path]) -> Login:
    return Login(clients, node, "root", keys["ed25519"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_logs_in_with_a_key(clients: Clients, node: Guest, keys: dict[str, Path], kind: str) -> None:
    login = Login(clients, node, "kim", keys[kind])
    assert login.ask("id; pwd").splitlines() == [
        "uid=1000(kim) gid=1000(kim) groups=1000(kim)",
        "/home/kim",
    ]
    assert login.run("sh -lc 'echo $HOME $SHELL'").stdout == "/home/kim /bin/sh\n"


def refused(login: Login) -> None:
    done = login.run("id")
    assert (done.returncode, done.stdout) == (255, "")
    # Only keys are offered: there is no password to guess.
    assert "Permission denied (publickey)." in done.stderr


def test_nobody_logs_in_without_a_key_that_is_known(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    clients.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger).check_returncode()
    # A machine of its own: sshd turns those away for a while who are refused more often.
    guest = Guest(graph(), tmp_path / "log")
    try:
        guest.answers()
        for key in (None, stranger):
            refused(Login(clients, guest, "kim", key))
    finally:
        guest.off()


def test_a_command_has_its_status_its_streams_and_a_terminal_if_it_asks(kim: Login) -> None:
    done = kim.run("cat; echo problem >&2; exit 7", input="through and through\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "through and through\n", "problem\n")
    assert kim.run("tty").stdout == "not a tty\n"
    assert kim.run("tty", options=("-tt",)).stdout.strip().startswith("/dev/pts/")


@pytest.mark.parametrize("way", ["scp", "sftp"])
def test_twenty_megabytes_come_through_whole(kim: Login, tmp_path: Path, way: str) -> None:
    data = os.urandom(20_000_000)
    (tmp_path / "there").write_bytes(data)
    if way == "scp":
        kim.copy("scp", tmp_path / "there", "HOST:/tmp/there")
    else:
        kim.copy("sftp", "-b", "-", "HOST:/tmp", input=f"put {tmp_path}/there there\nchmod 600 there\n")
    assert kim.ask("sha256sum </tmp/there").split()[0] == hashlib.sha256(data).hexdigest()
    kim.copy("scp" if way == "scp" else "sftp", "HOST:/tmp/there", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    kim.ask("rm /tmp/there")


def test_twenty_people_log_in_at_once(clients: Clients, node: Guest, keys: dict[str, Path]) -> None:
    login = Login(clients, node, "kim", keys["ed25519"])
    words = [os.fspath(clients.folder / "ssh"), *login.argv("cat; echo done")]
    people = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    ends = [person.communicate(f"person {number}\n", timeout=170) for number, person in enumerate(people)]
    assert [(out, err) for out, err in ends] == [(f"person {number}\ndone\n", "") for number in range(20)]


def test_those_who_are_slow_to_log_in_shut_nobody_out(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    # A machine of its own: sshd turns those away for a while who come and do not log in.
    guest = Guest(graph(), tmp_path / "log")
    try:
        guest.answers()
        has_all_keys(Login(clients, guest, "kim", keys["ed25519"]))
        with ExitStack() as stack:
            for _ in range(30):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", int(guest.port)), timeout=60))
                assert connection.recv(8) == b"SSH-2.0-"
    finally:
        guest.off()


@contextmanager
def web(text: bytes) -> Iterator[int]:
    """An HTTP server on the loopback of this machine that says ``text``; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_ports_are_forwarded_both_ways(clients: Clients, kim: Login) -> None:
    with web(b"from here") as port:
        back = kim.run("wget -qO- http://127.0.0.1:8080/", options=("-R", f"8080:127.0.0.1:{port}"))
        assert back.stdout == "from here"
    local = free_port()
    words = ["-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:127.0.0.1:22"]
    with subprocess.Popen([clients.folder / "ssh", *kim.argv("sleep 60", options=tuple(words))]) as tunnel:
        seen = b""
        for _ in range(1200):
            try:
                with socket.create_connection(("127.0.0.1", local), timeout=5) as connection:
                    seen = connection.recv(7)
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        tunnel.kill()
    assert seen == b"SSH-2.0"


def test_the_host_has_a_key_of_each_kind_that_it_made_itself(
    clients: Clients, node: Guest, admin: Login, graph: Callable[..., Graph]
) -> None:
    # The kinds are named, since sshd soon turns those away who come and do not log in.
    scan = clients.run("ssh-keyscan", "-T", "120", "-t", ",".join(KINDS), "-p", node.port, "127.0.0.1")
    kinds = {line.split()[1] for line in scan.stdout.splitlines()}
    assert kinds == {"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"}, scan.stderr
    assert admin.ask("stat -c %a:%U /etc/ssh/ssh_host_*_key").splitlines() == ["600:root"] * 3
    shipped = json.loads((graph().image.files()["manifest.json"]).read_text())
    assert not [row for row in shipped if "ssh_host" in row["path"]]


def test_a_server_that_is_killed_comes_back(clients: Clients, node: Guest, admin: Login) -> None:
    before = admin.ask("pgrep -o -x sshd || pgrep -o sshd").strip()
    admin.run(f"kill -KILL {before}")
    node.answers()
    for _ in range(60):
        after = admin.run("pgrep -o -x sshd || pgrep -o sshd").stdout.strip()
        if after and after != before:
            break
        time.sleep(0.5)
    assert int(after) != int(before)
    assert "sshd" in admin.ask("cat /var/log/messages")


def test_the_network_of_the_machine_is_in_reach(admin: Login) -> None:
    assert "1 packets received" in admin.ask("busybox ping -c 1 10.0.2.2")
    assert "1 received" in admin.ask("ping -c 1 -W 10 10.0.2.2")
    assert "Received 1 response" in admin.ask("arping -c 1 -w 10 -I eth0 10.0.2.2")
    assert "nameserver 10.0.2.3" in admin.ask("cat /etc/resolv.conf")
    assert " fec0:" in admin.ask("for i in 1 2 3 4 5; do ip -6 addr show dev eth0 | grep fec0 && break; sleep 1; done")
    with web(b"hello") as port:
        assert admin.ask(f"wget -qO- http://10.0.2.2:{port}/") == "hello"


def test_two_nodes_find_each_other(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    built = graph()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    people = []
    try:
        for number, (own, other) in enumerate(((port, port + 1), (port + 1, port))):
            wire = (
                f"dgram,id=wire,local.type=inet,local.host=127.0.0.1,local.port={own},"
                f"remote.type=inet,remote.host=127.0.0.1,remote.port={other}"
            )
            card = f"virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:00:00:{number + 1:02x}"
            address = f"ip=10.9.0.{number + 1}::::node{number}:eth1:off"
            people.append(Guest(built, tmp_path / f"{number}.log", "-netdev", wire, "-device", card, append=address))
        for guest in people:
            guest.answers()
        one, two = (Login(clients, guest, "root", keys["ed25519"]) for guest in people)
        assert "inet 10.9.0.2/8" in two.ask("ip -4 addr show dev eth1")
        assert "3 received, 0% packet loss" in one.ask("ping -c 3 -W 10 10.9.0.2")
        assert "52:54:00:00:00:02" in one.ask("arping -c 2 -w 10 -I eth1 10.9.0.2").lower()
        assert "reached" in one.ask("tracepath -n -m 3 10.9.0.2").lower()
        _, *apart = one.ask("clockdiff 10.9.0.2").split()
        assert all(abs(int(milliseconds)) < 10_000 for milliseconds in apart)
        assert two.ask("hostname").strip() == "node1"
    finally:
        for guest in people:
            guest.off()


def test_a_disk_keeps_its_host_keys_and_ends_clean(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    built = graph()
    drive = tmp_path / "root.ext4"
    shutil.copyfile(built.image.files()["rootfs.ext4"], drive)
    seen = []
    for turn in range(2):
        guest = Guest(built, tmp_path / f"{turn}.log", drive=drive)
        try:
            guest.answers()
            login = Login(clients, guest, "root", keys["ed25519"])
            seen.append(login.ask("cat /etc/ssh/ssh_host_ed25519_key.pub"))
            refused(Login(clients, guest, "root", keys["rsa"]))
            refused(Login(clients, guest, "sshd", keys["ed25519"]))
            login.run("poweroff")
            assert guest.wait() == 0
        finally:
            guest.off()
    assert seen[0] == seen[1] != ""
    tools = built.tools.sandbox("image").with_mounts([Mount(source=tmp_path, target="/work")])
    tools.run(["e2fsck", "-fn", "/work/root.ext4"])
    assert b"needs_recovery" not in tools.run(["dumpe2fs", "-h", "/work/root.ext4"])


def test_a_machine_that_is_given_no_randomness_does_not_wait_for_any(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    trust = "random.trust_cpu=off random.trust_bootloader=off"
    guest = Guest(graph(), tmp_path / "log", append=trust, without="virtio-rng-pci")
    try:
        guest.answers()
        admin = Login(clients, guest, "root", keys["ed25519"])
        assert admin.ask("ls /sys/class/misc/hw_random/device/driver 2>/dev/null; echo $?").strip() == "1"
        assert len(admin.ask("head -c 16 /dev/random | hexdump -ve '1/1 \"%02x\"'")) == 32
    finally:
        guest.off()


def test_uefi_firmware_starts_the_arm_kernel(graph: Callable[..., Graph], tmp_path: Path) -> None:
    built = graph("qemu-aarch64")
    firmware = built.tools[built.vm].built().root / "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
    guest = Guest(built, tmp_path / "log", "-bios", os.fspath(firmware))
    try:
        guest.answers()
        assert "EFI stub: " in guest.text()
        assert "efi: EFI v" in guest.text()
    finally:
        guest.off()


def test_dropbear_lets_the_same_people_in(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    guest = Guest(graph(sshd="dropbear"), tmp_path / "log")
    try:
        guest.answers()
        for kind in KINDS:
            assert "uid=1000(kim)" in Login(clients, guest, "kim", keys[kind]).ask("id")
        assert Login(clients, guest, "kim", None).run("id").returncode == 255
    finally:
        guest.off()


def test_programs_share_one_c_library_where_the_board_says_so(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path
) -> None:
    built = graph(libc="shared")
    guest = Guest(built, tmp_path / "log")
    try:
        guest.answers()
        admin = Login(clients, guest, "root", keys["ed25519"])
        for program in ("busybox", "ping", "ssh"):
            assert "ld-musl" in admin.ask(f"/lib/ld-musl-x86_64.so.1 --list $(which {program})")
        assert "uid=1000(kim)" in Login(clients, guest, "kim", keys["rsa"]).ask("id")
        assert "1 received" in admin.ask("ping -c 1 -W 10 10.0.2.2")
    finally:
        guest.off()


@pytest.mark.parametrize("board", ["qemu-aarch64", "qemu-microvm", "qemu-riscv64"])
def test_every_board_is_a_node(
    clients: Clients, graph: Callable[..., Graph], keys: dict[str, Path], tmp_path: Path, board: str
) -> None:
    guest = Guest(graph(board), tmp_path / "log")
    try:
        guest.answers()
        machine = Login(clients, guest, "kim", keys["ed25519"]).ask("uname -m")
        assert machine.strip() == board.removeprefix("qemu-").replace("microvm", "x86_64")
        assert "1 received" in Login(clients, guest, "root", keys["ed25519"]).ask("ping -c 1 -W 10 10.0.2.2")
    finally:
        guest.off()
