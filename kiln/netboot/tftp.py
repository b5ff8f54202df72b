"""The table by TFTP, for reading only: RFC 1350 with the options of RFC 2347, 2348 and 2349.

The block number wraps to 0, so a file may be larger than 65535 blocks.
"""

import socket
import socketserver
import struct
import time
from collections.abc import Mapping

from kiln.netboot.server import Server
from kiln.netboot.table import Item, Report, Request, Table

_READ, _WRITE, _DATA, _ACK, _ERROR, _OACK = range(1, 7)
_UNDEFINED, _NOT_FOUND, _DENIED, _ILLEGAL = 0, 1, 2, 4
_BLOCK = 512
_SMALLEST, _LARGEST = 8, 65464
_WAIT = 1.0
_TRIES = 6


class TftpServer(Server, socketserver.UDPServer):
    """Each transfer has a port of its own, and hears its client alone."""

    protocol = "tftp"
    variable = "TFTP"
    max_packet_size = 2048

    def __init__(self, table: Table, address: str, port: int, report: Report) -> None:
        super().__init__(table, address, port, report, _Handler)


class _Ended(Exception):
    """A transfer ended early; says how."""


class _Handler(socketserver.BaseRequestHandler):
    """One datagram on the server's port, and the transfer that follows from it."""

    server: TftpServer

    def handle(self) -> None:
        packet: bytes = self.request[0]
        kind = int.from_bytes(packet[:2], "big") if len(packet) >= 2 else 0
        if kind == _ERROR:  # two who answer errors with errors would never end
            return
        fields = packet[2:].split(b"\0")
        name = fields[0].decode("latin-1").removeprefix("/") if kind in (_READ, _WRITE) else ""
        if kind == _WRITE:
            self._refuse(_DENIED, "read-only", name)
        elif kind != _READ or len(fields) < 3:
            self._refuse(_ILLEGAL, "no request", name)
        elif fields[1].lower() != b"octet":
            self._refuse(_UNDEFINED, "mode must be octet", name)
        elif item := self.server.table.get(name):
            self._transfer(name, item, _options(fields[2:-1]))
        else:
            self._refuse(_NOT_FOUND, "not found", name)

    def _transfer(self, name: str, item: Item, asked: Mapping[str, int]) -> None:
        size, wait = asked.get("blksize", _BLOCK), float(asked.get("timeout", _WAIT))
        granted = {key: item.size if key == "tsize" else value for key, value in asked.items()}
        sent, status = 0, "ok"
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.bind((self.server.server_address[0], 0))
                line.connect(self.client_address)
                if granted:
                    words = "".join(f"{key}\0{value}\0" for key, value in granted.items())
                    _deliver(line, _packet(_OACK) + words.encode(), 0, wait)
                for number in range(item.size // size + 1):
                    chunk = item.read(sent, size)
                    block = (number + 1) % 65536
                    _deliver(line, _packet(_DATA, block) + chunk, block, wait)
                    sent += len(chunk)
        except _Ended as ended:
            status = str(ended)
        except OSError:
            status = "aborted"
        self._report(name, status, sent)

    def _refuse(self, code: int, why: str, name: str) -> None:
        line: socket.socket = self.request[1]
        self._report(name, why, 0)  # before the client goes on to ask for something else
        line.sendto(_packet(_ERROR, code) + why.encode() + b"\0", self.client_address)

    def _report(self, name: str, status: str, sent: int) -> None:
        client = self.client_address[0]
        self.server.report(Request(client=client, protocol="tftp", name=name, status=status, sent=sent))


def _packet(kind: int, *numbers: int) -> bytes:
    return struct.pack(f"!{1 + len(numbers)}H", kind, *numbers)


def _options(fields: list[bytes]) -> dict[str, int]:
    """The options of a request that we know, with values that we grant; what is malformed counts as not asked for."""
    found: dict[str, int] = {}
    for key, value in zip(fields[::2], fields[1::2], strict=False):
        name = key.decode("latin-1").lower()
        number = int(value) if value.isdigit() and len(value) < 10 else -1
        if name == "blksize" and number >= _SMALLEST:
            found[name] = min(number, _LARGEST)
        elif (name == "timeout" and 1 <= number <= 255) or (name == "tsize" and number >= 0):
            found[name] = number
    return found


def _deliver(line: socket.socket, packet: bytes, block: int, wait: float) -> None:
    """Send until it is acknowledged. Raises _Ended where it is not, and OSError where nobody is there any more.

    An answer to an earlier block is not answered: else every one that comes twice would double all that follow.
    """
    for _ in range(_TRIES):
        line.send(packet)
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            line.settimeout(left)
            try:
                answer = line.recv(_BLOCK)
            except TimeoutError:
                break
            if answer[:4] == _packet(_ACK, block):
                return
            if answer[:2] == _packet(_ERROR):
                raise _Ended("aborted")
    raise _Ended("no answer")
