"""Roots that others serve while a machine runs: a program of this machine, or a second one of ours."""

import os
import socket
import subprocess
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
    log = _log(request)
    server = _start([*of_tree(tree, "qemu-nbd"), *words, os.fspath(request.file("ext4"))], request, log)
    while not _answers(port):
        if server.poll() is not None:
            raise _ended("qemu-nbd", request, log)
        time.sleep(0.05)
    return port


def by_machine(request: Request, how: str) -> Path:
    """The network of a second machine, 10.9.0.1, which runs the same board in memory, and serves its ext4 root.

    ``how`` is nfs or iscsi. Raises KilnError where it is not ready in time.
    """
    graph = request.graph
    cable, log = request.scratch / "cable", _log(request)
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
    server = _start(argv, request, log)
    deadline = time.monotonic() + _TIMEOUT
    while f"root-server: {how} is ready" not in log.read_text(errors="replace"):
        if server.poll() is not None or time.monotonic() > deadline:
            raise _ended("the machine that serves the root", request, log)
        time.sleep(0.1)
    return cable


def _log(request: Request) -> Path:
    return request.graph.image.output / "boot/server" / f"{request.road}.log"


def _start(argv: list[str], request: Request, log: Path) -> "subprocess.Popen[bytes]":
    """Start a server, whose words go to ``log``, until the boot is over."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        server = process.start(argv, stdout=file, stderr=file)
    request.stack.callback(server.wait)
    request.stack.callback(server.kill)
    return server


def _ended(what: str, request: Request, log: Path) -> KilnError:
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    hint = f"log      {os.path.relpath(log, request.graph.settings.root)}"
    return KilnError(f"{what} said last: {last[0]}", where=request.road, hint=hint)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
