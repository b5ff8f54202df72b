"""Roots that others serve while a machine runs: a program of this machine, or a second one of ours."""

import os
import socket
import time
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.vm.qemu import Boot, command, find_qemu, free_port, of_tree
from kiln.vm.road import Request

# What a server may take to be ready under emulation on a busy machine, in seconds.
_TIMEOUT = 300.0


def by_nbd(request: Request) -> int:
    """The port of the loopback where ``qemu-nbd`` serves the ext4 root, to be read alone, until the boot is over."""
    port = free_port()
    tree = request.graph.tools["image"].built().root
    words = ("--persistent", "--shared=4", "--read-only", "--format=raw", "--bind=127.0.0.1", f"--port={port}")
    server = process.start([*of_tree(tree, "qemu-nbd"), *words, os.fspath(request.file("ext4"))])
    request.stack.callback(server.wait)
    request.stack.callback(server.kill)
    while not _answers(port):
        if server.poll() is not None:
            raise KilnError("qemu-nbd ended before it served the root", where=request.road)
        time.sleep(0.05)
    return port


def by_machine(request: Request, how: str) -> Path:
    """The network of a second machine, 10.9.0.1, which runs the same board in memory, and serves its ext4 root.

    ``how`` is nfs or iscsi. Raises KilnError where it is not ready in time.
    """
    graph = request.graph
    cable, log = request.scratch / "cable", graph.image.output / "boot/server" / f"{request.road}.log"
    boot = Boot(
        kernel=request.kernel,
        initrd=request.file("cpio"),
        drives=(request.file("ext4"),),
        cmdline=f"{graph.board.cmdline} quiet ip=10.9.0.1:::255.255.255.0::eth1:none kiln.serve={how}",
        cable=cable,
        serves=True,
    )
    program, kvm = find_qemu(graph)
    argv = command(graph.board.machine, boot, program=program, kvm=kvm, interactive=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        server = process.start(argv, stdout=file, stderr=file)
    request.stack.callback(server.wait)
    request.stack.callback(server.kill)
    deadline = time.monotonic() + _TIMEOUT
    while f"root-server: {how} is ready" not in (said := log.read_text(errors="replace")):
        if server.poll() is not None or time.monotonic() > deadline:
            last = said.strip().splitlines()[-1:] or ["nothing"]
            hint = f"log      {os.path.relpath(log, graph.settings.root)}"
            raise KilnError(f"the machine that serves the root said last: {last[0]}", where=request.road, hint=hint)
        time.sleep(0.1)
    return cable


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
