"""What the HTTP and the TFTP server have in common: a port, a thread for each client, and a limit to their number."""

import errno
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kiln.errors import KilnError
from kiln.netboot.table import Report, Table

_CLIENTS = 200
_POLL = 0.1


class Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Offers ``table`` on an address of this machine; port 0 takes a free one. Raises KilnError where it has none.

    A client beyond the limit is not heard, nor one that asks again while it is being answered.
    """

    daemon_threads = True
    block_on_close = False
    protocol: str
    variable: str
    socket: socket.socket

    def __init__(self, table: Table, address: str, port: int, report: Report, handler: type[Any]) -> None:
        self.table = table
        self.report = report
        self._clients: set[Any] = set()
        try:
            super().__init__((address, port), handler)
        except OverflowError as error:
            raise KilnError(f"there is no port {port}", where=self.variable, hint="1 to 65535") from error
        except OSError as error:
            raise self._failure(address, port, error) from error

    @property
    def port(self) -> int:
        number: int = self.socket.getsockname()[1]
        return number

    @contextmanager
    def running(self) -> Iterator[int]:
        """Serve in the background; gives the port."""
        thread = threading.Thread(target=self.serve_forever, args=(_POLL,), daemon=True)
        thread.start()
        try:
            yield self.port
        finally:
            self.shutdown()
            self.server_close()
            thread.join()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        return client_address not in self._clients and len(self._clients) < _CLIENTS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(client_address)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._clients.discard(client_address)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._clients.discard(client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no mistake
            super().handle_error(request, client_address)

    def _failure(self, address: str, port: int, error: OSError) -> KilnError:
        kind = "lntp" if self.protocol == "http" else "lnup"
        hints = {
            errno.EADDRINUSE: f"choose another one ({self.variable}=), or see who has it: ss -{kind} sport = :{port}",
            errno.EACCES: f"ports below 1024 are root's; choose another one ({self.variable}=)",
            errno.EADDRNOTAVAIL: "ADDRESS= is an address of this machine, or 0.0.0.0 for all of them; see: ip addr",
        }
        where = f"{self.protocol} on {address}:{port}"
        message = "another program has this port" if error.errno == errno.EADDRINUSE else str(error.strerror)
        return KilnError(message, where=where, hint=hints.get(error.errno or 0))
