"""Boot over the network: offer a board's images to other machines, and to QEMU's own network card."""

import ipaddress
import threading
import time

from kiln import process
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.netboot import offer
from kiln.netboot.http import HttpServer
from kiln.netboot.script import SCRIPT
from kiln.netboot.table import Request, Table
from kiln.netboot.tftp import TftpServer

# Both for a user who is not root; the one that TFTP clients ask at, where nobody tells them another, is 69.
HTTP_PORT = 8080
TFTP_PORT = 6969

_EVERY = "0.0.0.0"  # noqa: S104


def serve(graph: Graph, *, address: str, http_port: int, tftp_port: int) -> None:
    """Offer the finished images on an address of this machine, by HTTP and TFTP, until the user has enough."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        hint = "an IPv4 address of this machine; 0.0.0.0 stands for all of them"
        raise KilnError(f"{address!r} is no address", where="ADDRESS", hint=hint) from error
    table = Table(offer.contents(graph) | offer.loaders(graph))
    graph.store.release()
    lock = threading.Lock()

    def report(request: Request) -> None:
        with lock:
            print(request, flush=True)

    try:
        with (
            HttpServer(table, address, http_port, report).running() as http,
            TftpServer(table, address, tftp_port, report).running() as tftp,
        ):
            print(_greeting(table, address, http, tftp), flush=True)
            while True:
                process.check()
                time.sleep(0.2)
    except KeyboardInterrupt:  # which is how it is meant to end
        pass
    finally:
        table.close()


def _greeting(table: Table, address: str, http_port: int, tftp_port: int) -> str:
    place = "ADDRESS" if address == _EVERY else address
    script = f"http://{place}:{http_port}/{SCRIPT}"
    lines = [
        table.index(),
        f"http://{place}:{http_port}/",
        f"tftp://{place}:{tftp_port}/",
        "",
        "What dnsmasq tells a machine whose iPXE asks it (docs/netboot.md has the rest):",
        "  dhcp-match=set:ipxe,175",
        f"  dhcp-boot=tag:ipxe,{script}",
        f"What to type into an iPXE: chain {script}",
    ]
    if address == _EVERY:
        lines.append("ADDRESS is that of this machine in the network of those that boot.")
    if ipaddress.IPv4Address(address).is_loopback:
        lines.append("Only this machine itself can ask here: ADDRESS= names one that others reach.")
    return "\n".join([*lines, "Ctrl-C ends it."])
