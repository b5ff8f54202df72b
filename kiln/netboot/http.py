"""The table by HTTP."""

import re
import socketserver
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from kiln.netboot.server import Server
from kiln.netboot.table import Item, Report, Request, Table

# What a client may be silent for, in seconds. QEMU connects when a machine starts, long before its firmware asks.
_PATIENCE = 300.0
_CHUNK = 1 << 16
_TYPES = {"ipxe": "text/plain", "efi": "application/efi"}


class HttpServer(Server, socketserver.TCPServer):
    protocol = "http"
    variable = "PORT"
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, table: Table, address: str, port: int, report: Report) -> None:
        super().__init__(table, address, port, report, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection. It stays open after an answer: QEMU forwards all of a guest's connections through one."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    server_version = "kiln"
    sys_version = ""
    timeout = _PATIENCE
    path = ""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].removeprefix("/")
        item = self.server.table.get(name) if name else Item(self.server.table.index().encode())
        if item is None:
            self._tell(HTTPStatus.NOT_FOUND)
            return
        span = _span(self.headers.get("Range"), item.size) if "If-Range" not in self.headers else None
        if span is not None and not span:
            self._tell(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{item.size}"})
        elif span:
            self._begin(HTTPStatus.PARTIAL_CONTENT, name, span)
            self.send_header("Content-Range", f"bytes {span.start}-{span.stop - 1}/{item.size}")
            self._finish(HTTPStatus.PARTIAL_CONTENT, item, span)
        else:
            self._begin(HTTPStatus.OK, name, range(item.size))
            self._finish(HTTPStatus.OK, item, range(item.size))

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        self.close_connection = True  # what follows may be no request
        self.path = self.requestline
        self._tell(HTTPStatus(code), {"Connection": "close"})

    def _tell(self, status: HTTPStatus, headers: Mapping[str, str] = {}) -> None:
        item = Item(f"{status.phrase}\n".encode())
        self._begin(status, "", range(item.size))
        for name, value in headers.items():
            self.send_header(name, value)
        self._finish(status, item, range(item.size))

    def _begin(self, status: HTTPStatus, name: str, span: range) -> None:
        self.send_response(status)
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream") if name else "text/plain"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(span)))
        self.send_header("Accept-Ranges", "bytes")

    def _finish(self, status: HTTPStatus, item: Item, span: range) -> None:
        sent, word = 0, str(int(status))
        try:
            self.end_headers()
            while self.command != "HEAD" and sent < len(span):
                chunk = item.read(span.start + sent, min(_CHUNK, len(span) - sent))
                self.wfile.write(chunk)
                sent += len(chunk)
                if not chunk:
                    raise OSError("the file became shorter")
        except OSError:
            word, self.close_connection = "aborted", True
        client = self.client_address[0]
        self.server.report(Request(client=client, protocol="http", name=self.path, status=word, sent=sent))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are reported when they are answered."""


def _span(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for, an empty range where there are none; None where it is to be ignored."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "", re.ASCII)
    if not match or match[0] == "bytes=-":
        return None
    if not match[1]:
        return range(max(0, size - int(match[2])), size)
    first, last = int(match[1]), int(match[2] or size - 1)
    if match[2] and last < first:
        return None
    return range(first, min(last + 1, size))
