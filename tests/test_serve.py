"""The HTTP and TFTP servers, asked by real clients, and by some that mean no good."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest
import requests

from kiln.errors import KilnError
from kiln.netboot.http import HttpServer
from kiln.netboot.table import Request, Table, lay_out
from kiln.netboot.tftp import TftpServer

SCRIPT = b"#!ipxe\necho hello\n"
# Neither a multiple of a block nor of a chunk.
KERNEL = bytes(range(256)) * 1000 + b"end"


@dataclass
class Service:
    """Both servers on the loopback; ``asked`` has a request for each that was answered."""

    http: int
    tftp: int
    asked: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def answered(self, count: int) -> list[Request]:
        """The first ``count`` requests, once they are all reported."""
        until(lambda: len(self.asked) >= count)
        return self.asked[:count]

    def line(self, text: bytes) -> bytes:
        """What the server says to ``text`` until it closes the connection."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=30) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.write_text("for nobody")
    return secret


@pytest.fixture
def table(tmp_path: Path, outside: Path) -> Iterator[Table]:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/bzImage").write_bytes(KERNEL)
    table = Table({"boot.ipxe": SCRIPT, "bzImage": tmp_path / "store/bzImage", "empty": b"", "block": bytes(1024)})
    yield table
    table.close()


@pytest.fixture
def service(table: Table) -> Iterator[Service]:
    asked: list[Request] = []
    with (
        HttpServer(table, "127.0.0.1", 0, asked.append).running() as http,
        TftpServer(table, "127.0.0.1", 0, asked.append).running() as tftp,
    ):
        yield Service(http=http, tftp=tftp, asked=asked)


def test_http_gives_whole_files_and_says_what_they_are(service: Service) -> None:
    script = requests.get(f"{service.url}/boot.ipxe", timeout=30)
    assert (script.content, script.headers["Content-Type"]) == (SCRIPT, "text/plain")
    assert requests.get(f"{service.url}/empty", timeout=30).content == b""
    kernel = requests.get(f"{service.url}/bzImage?machine=1", timeout=30)
    assert (kernel.content, kernel.headers["Content-Length"]) == (KERNEL, str(len(KERNEL)))
    head = requests.head(f"{service.url}/bzImage", timeout=30)
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(KERNEL)))
    # Each is reported when its answer is out, and the next one may overtake it.
    told = {words[-1]: words[1:-1] for words in (str(request).split() for request in service.answered(4))}
    assert told == {
        "/boot.ipxe": ["127.0.0.1", "http", "200", str(len(SCRIPT))],
        "/empty": ["127.0.0.1", "http", "200", "0"],
        "/bzImage?machine=1": ["127.0.0.1", "http", "200", str(len(KERNEL))],
        "/bzImage": ["127.0.0.1", "http", "200", "0"],
    }


def test_http_has_an_index_of_its_names_alone(service: Service) -> None:
    index = requests.get(service.url, timeout=30)
    assert index.headers["Content-Type"] == "text/plain"
    assert [line.split() for line in index.text.splitlines()] == [
        ["1024", "block"], [str(len(SCRIPT)), "boot.ipxe"], [str(len(KERNEL)), "bzImage"], ["0", "empty"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=5-9", 206, KERNEL[5:10]),
        ("bytes=256000-", 206, b"end"),
        ("bytes=-3", 206, b"end"),
        ("bytes=-999999999", 206, KERNEL),
        ("bytes=256000-999999999", 206, b"end"),
        ("bytes=256003-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-5", 200, KERNEL),
        ("bytes=-", 200, KERNEL),
        ("bytes=1-2,4-5", 200, KERNEL),
        ("lines=1-2", 200, KERNEL),
    ],
)
def test_http_gives_ranges(service: Service, asked: str, status: int, content: bytes | None) -> None:
    answer = requests.get(f"{service.url}/bzImage", headers={"Range": asked}, timeout=30)
    assert answer.status_code == status
    if status == 206:
        assert content
        first = KERNEL.index(content) if content != b"end" else 256000
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(content) - 1}/256003"
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */256003"
    else:
        assert answer.content == content


def test_a_range_of_what_may_be_another_file_is_the_whole_file(service: Service) -> None:
    headers = {"Range": "bytes=5-", "If-Range": '"one"'}
    assert requests.get(f"{service.url}/bzImage", headers=headers, timeout=30).content == KERNEL


@pytest.mark.parametrize(
    "path",
    [
        "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/store/../../secret", "//etc/passwd", "/etc/passwd",
        "/bzImage/", "/bzImage/..", "/./bzImage", "/bzImage%00", "/boot%2eipxe", "/mac/", "http://elsewhere/bzImage",
        "/\\..\\secret", "/bzImage\x01", "*",
    ],
)  # fmt: skip
def test_http_knows_no_other_name(service: Service, path: str) -> None:
    answer = service.line(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"nobody" not in answer and b"root:" not in answer
    assert service.answered(1)[0].status == "404"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /bzImage" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /boot.ipxe HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /boot.ipxe HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431),
        (b"PUT /boot.ipxe HTTP/1.1\r\nContent-Length: 3\r\n\r\nbad", 501),
        (b"DELETE /boot.ipxe HTTP/1.1\r\n\r\n", 501),
        (b"\x00\xff\x1b[2J\r\n\r\n", 400),
        (b"GET /a b c HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
    ],
)
def test_http_refuses_what_is_no_request_to_read(service: Service, request_line: bytes, status: int) -> None:
    answer = service.line(request_line)
    assert answer.endswith(f"{HTTPStatus(status).phrase}\n".encode())
    assert requests.get(f"{service.url}/boot.ipxe", timeout=30).content == SCRIPT
    (refused,) = (request for request in service.answered(2) if request.status != "200")
    assert refused.status == str(status)
    assert str(refused).isprintable() and len(str(refused)) < 200


def test_one_connection_serves_many_requests(service: Service) -> None:
    answer = service.line(b"GET /nothing HTTP/1.1\r\n\r\nGET /boot.ipxe HTTP/1.1\r\n\r\nHEAD /bzImage HTTP/1.1\r\n\r\n")
    assert [word[:3] for word in answer.split(b"HTTP/1.1 ")[1:]] == [b"404", b"200", b"200"]
    assert SCRIPT in answer


def test_what_is_served_is_what_was_there_at_the_start(service: Service, tmp_path: Path, outside: Path) -> None:
    (tmp_path / "store/bzImage").unlink()
    (tmp_path / "store/bzImage").symlink_to(outside)
    assert requests.get(f"{service.url}/bzImage", timeout=30).content == KERNEL
    assert fetch(service, "bzImage") == KERNEL


def test_many_are_served_at_once(service: Service) -> None:
    def ask(number: int) -> bytes:
        if number % 2:
            return fetch(service, "bzImage", blksize=1400)
        return requests.get(f"{service.url}/bzImage", timeout=60).content

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) == {KERNEL}
    assert {request.sent for request in service.answered(32)} == {len(KERNEL)}


def test_a_client_that_goes_away_is_told_of_and_harms_nobody(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 28)
    asked: list[Request] = []
    table = Table({"large": large})
    with HttpServer(table, "127.0.0.1", 0, asked.append).running() as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            client.recv(1000)
        until(lambda: bool(asked))
        assert requests.head(f"http://127.0.0.1:{port}/large", timeout=30).headers["Content-Length"] == str(1 << 28)
    table.close()
    assert asked[0].status == "aborted" and asked[0].sent < 1 << 28


def test_a_file_that_becomes_shorter_ends_the_answer(service: Service, tmp_path: Path) -> None:
    os.truncate(tmp_path / "store/bzImage", 1000)
    assert service.line(b"GET /bzImage HTTP/1.1\r\n\r\n").endswith(KERNEL[:1000])
    told = service.answered(1)[0]
    assert (told.status, told.sent) == ("aborted", 1000)


class Line:
    """A TFTP client's side, packet by packet."""

    def __init__(self, service: Service) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(30)
        self._server = ("127.0.0.1", service.tftp)
        self.peer = self._server

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """To the server's port."""
        self._socket.sendto(packet, self._server)

    def answer(self, packet: bytes) -> None:
        """To the port of the transfer."""
        self._socket.sendto(packet, self.peer)

    def hear(self) -> tuple[int, bytes]:
        """The kind of the next packet, and the rest of it."""
        packet, self.peer = self._socket.recvfrom(70000)
        return int.from_bytes(packet[:2], "big"), packet[2:]


def rrq(name: str, mode: str = "octet", /, **options: object) -> bytes:
    words = [name, mode, *(str(word) for pair in options.items() for word in pair)]
    return b"\0\1" + b"".join(word.encode() + b"\0" for word in words)


def ack(block: int) -> bytes:
    return struct.pack("!HH", 4, block)


def fetch(service: Service, name: str, **options: object) -> bytes:
    """A file, by a client that does as RFC 1350 says."""
    size, found, block = int(str(options.get("blksize", 512))), b"", 1
    with Line(service) as line:
        line.send(rrq(name, **options))
        kind, rest = line.hear()
        while kind == 6:
            line.answer(ack(0))
            kind, rest = line.hear()
        while kind == 3:
            number, data = int.from_bytes(rest[:2], "big"), rest[2:]
            if number == block % 65536:
                found += data
                block += 1
            line.answer(ack(number))
            if len(data) < size:
                return found
            kind, rest = line.hear()
    raise AssertionError(f"kind {kind}: {rest!r}")


@pytest.mark.parametrize("options", [{}, {"blksize": 1432}, {"blksize": 65464, "tsize": 0}, {"blksize": 8}])
def test_tftp_gives_whole_files(service: Service, options: dict[str, int]) -> None:
    content = SCRIPT if options == {"blksize": 8} else KERNEL
    assert fetch(service, "boot.ipxe" if content is SCRIPT else "bzImage", **options) == content
    until(lambda: bool(service.asked))
    assert (service.asked[0].status, service.asked[0].sent) == ("ok", len(content))


def test_tftp_ends_a_file_of_whole_blocks_with_an_empty_one(service: Service) -> None:
    assert fetch(service, "block") == bytes(1024)
    assert fetch(service, "empty") == b""
    assert fetch(service, "/boot.ipxe") == SCRIPT  # with the slash that some firmwares put before it


def test_curl_understands_our_tftp(service: Service) -> None:
    url = f"tftp://127.0.0.1:{service.tftp}/bzImage"
    assert subprocess.run(["curl", "-sS", url], check=True, capture_output=True).stdout == KERNEL
    missing = subprocess.run(["curl", "-sS", f"{url}2"], capture_output=True)
    assert missing.returncode == 68  # "file not found on server"


def test_tftp_wraps_its_block_numbers(tmp_path: Path) -> None:
    content = os.urandom(8 * 65536 + 100)
    table = Table({"large": content})
    with TftpServer(table, "127.0.0.1", 0, lambda _: None).running() as port:
        assert fetch(Service(http=0, tftp=port), "large", blksize=8) == content
    table.close()


def test_tftp_grants_the_options_that_it_knows(service: Service) -> None:
    with Line(service) as line:
        line.send(rrq("bzImage", BLKSIZE=99999, tsize=0, timeout=2, windowsize=4, multicast=1))
        kind, rest = line.hear()
        assert kind == 6
        words = rest.decode().split("\0")[:-1]
        assert dict(zip(words[::2], words[1::2], strict=True)) == {
            "blksize": "65464", "tsize": "256003", "timeout": "2",
        }  # fmt: skip
        line.answer(b"\0\5\0\x08no\0")
    assert service.answered(1)[0].status == "aborted"


@pytest.mark.parametrize("options", [{"blksize": "many"}, {"blksize": 7}, {"timeout": 0}, {"tsize": -1}, {"x": ""}])
def test_tftp_overlooks_options_that_make_no_sense(service: Service, options: dict[str, object]) -> None:
    with Line(service) as line:
        line.send(rrq("boot.ipxe", **options))
        assert line.hear() == (3, b"\0\1" + SCRIPT)


def test_tftp_sends_again_what_got_lost_and_once_alone(service: Service) -> None:
    with Line(service) as line:
        line.send(rrq("bzImage", blksize=1024, timeout=3))
        kind, _ = line.hear()
        assert (kind, line.hear()[0]) == (6, 6)  # we were silent, so it said it again
        line.answer(ack(0))
        assert line.hear() == (3, b"\0\1" + KERNEL[:1024])
        line.answer(ack(0))  # late, and nothing follows from it
        line.answer(ack(1))
        assert line.hear() == (3, b"\0\2" + KERNEL[1024:2048])
        line.answer(b"\0\5\0\0enough\0")
    first = service.answered(1)[0]
    assert (first.status, first.sent) == ("aborted", 1024)


def test_a_stranger_cannot_speak_for_a_client(service: Service) -> None:
    with Line(service) as line, Line(service) as stranger:
        line.send(rrq("bzImage"))
        assert line.hear()[0] == 3
        stranger.peer = line.peer
        stranger.answer(b"\0\5\0\0end it\0")
        stranger.answer(ack(1))
        line.answer(ack(1))
        assert line.hear() == (3, b"\0\2" + KERNEL[512:1024])


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (rrq("../secret"), 1), (rrq("/etc/passwd"), 1), (rrq("//etc/passwd"), 1), (rrq("store/../../secret"), 1),
        (rrq(""), 1), (rrq("boot.ipxe/"), 1), (b"\0\1\xff\xfe\0octet\0", 1), (rrq("x" * 1500), 1),
        (rrq("boot.ipxe", "netascii"), 0), (rrq("boot.ipxe", "mail"), 0),
        (b"\0\2boot.ipxe\0octet\0", 2), (b"\0\2../../etc/passwd\0octet\0tsize\x001\0", 2), (b"\0\2", 2),
        (b"\0\1", 4), (b"\0\1boot.ipxe", 4), (b"\0\1boot.ipxe\0octet", 4), (b"\0\3\0\1data", 4), (b"\0\4\0\1", 4),
        (b"\0\6blksize\0", 4), (b"\0\7", 4), (b"\xff\xff", 4), (b"\0", 4), (b"", 4),
    ],
)  # fmt: skip
def test_tftp_refuses_everything_else(service: Service, packet: bytes, code: int) -> None:
    with Line(service) as line:
        line.send(packet)
        kind, rest = line.hear()
        assert (kind, int.from_bytes(rest[:2], "big")) == (5, code)
        assert rest.endswith(b"\0")
    assert fetch(service, "boot.ipxe") == SCRIPT
    (refused,) = (request for request in service.answered(2) if request.status != "ok")
    assert refused.sent == 0 and str(refused).isprintable() and len(str(refused)) < 200


def test_an_error_is_not_answered(service: Service) -> None:
    with Line(service) as line:
        line.send(b"\0\5\0\1no\0")
        line.send(rrq("boot.ipxe"))
        assert line.hear()[0] == 3
        line.answer(ack(1))
    assert [request.status for request in service.answered(1)] == ["ok"]


def test_a_client_that_asks_twice_gets_one_transfer(service: Service) -> None:
    with Line(service) as line:
        line.send(rrq("boot.ipxe"))
        assert line.hear()[0] == 3
        port = line.peer
        line.send(rrq("boot.ipxe"))
        assert line.hear()[0] == 3  # the first one again, since we did not answer
        assert line.peer == port
        line.answer(ack(1))


def test_a_port_in_use_is_told_of_with_a_remedy(table: Table, service: Service) -> None:
    for kind, port, where, remedy in (
        (HttpServer, service.http, "http on 127.0.0.1", "PORT="),
        (TftpServer, service.tftp, "tftp on 127.0.0.1", "TFTP="),
    ):
        with pytest.raises(KilnError) as caught:
            kind(table, "127.0.0.1", port, lambda _: None)
        assert caught.value.message == "another program has this port"
        assert caught.value.where == f"{where}:{port}"
        assert remedy in str(caught.value.hint)


def test_an_address_or_port_that_is_none_of_ours_is_told_of(table: Table) -> None:
    with pytest.raises(KilnError) as caught:
        HttpServer(table, "192.0.2.1", 8080, lambda _: None)
    assert "ADDRESS=" in str(caught.value.hint)
    with pytest.raises(KilnError, match="no port 70000"):
        TftpServer(table, "127.0.0.1", 70000, lambda _: None)


def test_a_file_that_is_not_there_cannot_be_offered(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        Table({"a": b"", "b": tmp_path / "none"})
    assert caught.value.where == os.fspath(tmp_path / "none")


def test_another_server_gets_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(KERNEL)
    lay_out({"bzImage": tmp_path / "kernel", "mac/a.ipxe": SCRIPT}, tmp_path / "tftp")
    assert (tmp_path / "tftp/bzImage").read_bytes() == KERNEL
    assert (tmp_path / "tftp/mac/a.ipxe").read_bytes() == SCRIPT


def test_servers_end_with_clients_still_there(table: Table) -> None:
    asked: list[Request] = []
    with (
        HttpServer(table, "127.0.0.1", 0, asked.append).running() as http,
        TftpServer(table, "127.0.0.1", 0, asked.append).running() as tftp,
    ):
        silent = socket.create_connection(("127.0.0.1", http))
        line = Line(Service(http=http, tftp=tftp))
        line.send(rrq("bzImage"))
        line.hear()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", http))
    silent.close()
    line.__exit__()
