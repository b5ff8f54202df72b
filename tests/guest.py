"""A running image and those who reach it: a board's machine under QEMU, and Debian's ssh programs."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from kiln.graph import KERNEL, Graph
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.qemu import Boot, command, find_program, kvm_works

_PATIENCE = 180.0


def free_port() -> int:
    """A port of the loopback that nobody has; each call gives another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def build(root: Path, board: str) -> Graph:
    """The board's image and its QEMU, built in the project ``root``."""
    env = dict(os.environ) | {"PYTHONPATH": os.fspath(root), "KILN_STORE": "", "KILN_DOWNLOADS": ""}
    graph = Graph.load(Settings.read(root, {}), board)
    words = [sys.executable, "-m", "doit", "image", f"tools:{graph.vm}", "tools:clients", f"BOARD={board}"]
    subprocess.run(words, cwd=root, env=env, check=True, stdout=subprocess.DEVNULL)
    return Graph.load(Settings.read(root, {}), board)


class Clients:
    """Debian's ssh programs from their tools tree, which need none of the machine's own."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.folder = folder
        libraries = tree / "usr/lib/x86_64-linux-gnu"
        for name in ("ssh", "scp", "sftp", "ssh-keygen", "ssh-keyscan"):
            script = folder / name
            start = f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {tree}/usr/bin/{name}"
            script.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
            script.chmod(0o755)

    def key(self, kind: str) -> Path:
        """A new key pair of that kind; the path is that of its private half."""
        path = self.folder / f"id_{kind}"
        self.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", f"{kind}@test", "-f", path).check_returncode()
        return path

    def run(self, name: str, *words: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / name, *words], input=input, capture_output=True, text=True, timeout=_PATIENCE
        )


class Guest:
    """A machine that runs the board's image; ``words`` are added to QEMU's command line, a device is left out."""

    def __init__(
        self, graph: Graph, log: Path, *words: str, drive: Path | None = None, append: str = "", without: str = ""
    ) -> None:
        self.port = str(free_port())
        machine = replace(graph.board.machine, forward=(f"{self.port}:22",))
        kernel, cmdline = kernel_image(graph.result(KERNEL).built()), f"{graph.board.cmdline} {append}".strip()
        if drive:
            boot = Boot(kernel=kernel, drives=(drive,), cmdline=f"{cmdline} root=/dev/vda rootwait")
        else:
            boot = Boot(kernel=kernel, initrd=graph.image.files()["rootfs.cpio.zst"], cmdline=cmdline)
        program = find_program(graph.board.arch.name, graph.tools[graph.vm].built().root)
        kvm = kvm_works(machine, program)
        argv = command(machine, boot, program=program, kvm=kvm, interactive=True)
        if drive:
            argv = [word.replace("snapshot=on", "snapshot=off") for word in argv]
        if without:
            place = argv.index(without)
            del argv[place - 1 : place + 1]
        self.log = log
        self.started = time.monotonic()
        self._file = log.open("wb")
        self._process = subprocess.Popen(
            [*argv, *words], stdin=subprocess.DEVNULL, stdout=self._file, stderr=subprocess.STDOUT
        )

    def answers(self) -> float:
        """Wait until ssh answers us; the seconds since the start."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", int(self.port)), timeout=5) as connection:
                    if connection.recv(4) == b"SSH-":
                        return time.monotonic() - self.started
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"ssh does not answer:\n{self.text()}")

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        """Wait until the machine is off; QEMU's status."""
        return self._process.wait(_PATIENCE)

    def off(self) -> None:
        self._process.kill()
        self._process.wait()
        self._file.close()


class Login:
    """A user of a guest, with a key."""

    def __init__(self, clients: Clients, guest: Guest, user: str, key: Path | None) -> None:
        # Nothing of whoever runs the tests, and no question to anybody.
        known = ["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
        known += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
        identity = ["-i", os.fspath(key)] if key else ["-o", "IdentityFile=none"]
        self.options = [*known, *identity]
        self._clients, self._guest, self._user = clients, guest, user

    def run(self, *words: str, input: str = "", options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest."""
        return self._run("ssh", *self.argv(*words, options=options), input=input)

    def argv(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        return [*self.options, "-p", self._guest.port, *options, f"{self._user}@127.0.0.1", *words]

    def ask(self, command: str) -> str:
        """What a command in the guest prints; it must succeed."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def copy(self, program: str, *words: str | Path, input: str = "") -> None:
        """Run scp or sftp; the guest is called ``HOST:`` in its words."""
        host = f"{self._user}@127.0.0.1:"
        ssh = self._clients.folder / "ssh"
        given = [os.fspath(word).replace("HOST:", host) for word in words]
        done = self._run(program, "-q", *self.options, "-S", ssh, "-P", self._guest.port, *given, input=input)
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(self, program: str, *words: str | Path, input: str) -> subprocess.CompletedProcess[str]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            done = self._clients.run(program, *words, input=input)
            # sshd starts again, within a second, once its RSA key is made.
            if "kex_exchange_identification: " not in done.stderr:
                return done
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.2)
