"""Edit a file of the image and see it boot: each save becomes one more segment of the initramfs, and boots at once."""

import atexit
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.initramfs import packing
from kiln.initramfs.folder import place_of
from kiln.initramfs.view import View
from kiln.kernel import kernel_image
from kiln.vm.qemu import Boot, command, find_qemu, with_free_ports

USAGE = "doit dev-init [FILE=./my-init] [PLACE=init]"

# How often the file is looked at, in seconds. What is the same at two looks is whole.
_PAUSE = 0.1


def dev_init(graph: Graph, file: str = "", place: str = "", append: str = "") -> None:
    """Boot the board's initramfs with ``file`` as /``place`` in it, again at each save, until Ctrl-C.

    Without ``file``, it is the one that the board's /init comes from. ``append`` are further kernel parameters.
    """
    path, target = _file(graph, file), place_of(place or "init")
    if not target:
        raise KilnError(f"{place!r} is no path of a file", where="PLACE", hint=USAGE)
    _give_terminal_back()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        # Copies, so that nobody who frees room has to wait for us.
        sources = (kernel_image(graph.kernel.built()), graph.media["cpio"].file)
        kernel, base = (shutil.copyfile(source, scratch / source.name) for source in sources)
        cmdline = f"{graph.board.cmdline} {append}".strip()
        view = View.read(base)
        shell = _shell(graph)
        program, kvm = find_qemu(graph)
        graph.store.release()
        print(f"each save of {file or os.path.relpath(path)} boots; Ctrl-A X ends the machine, then Ctrl-C ends this")
        machine, copy = _Machine(), scratch / "file"
        try:
            for data in _saves(path, machine):
                copy.write_bytes(data)
                wrong = _syntax(shell, copy)
                if wrong:
                    print(f"\r\n{path} is not booted:\r\n  {wrong}\r", flush=True)
                    continue
                machine.end()
                initrd = _with(base, view, target, copy, scratch / "grown")
                grown = initrd.stat().st_size - base.stat().st_size
                print(f"== {time.strftime('%H:%M:%S')}  /{target} is {path}, {grown} bytes more", flush=True)
                boot = Boot(kernel=kernel, initrd=initrd, cmdline=cmdline)
                hardware = with_free_ports(graph.board.machine)
                machine.start(command(hardware, boot, program=program, kvm=kvm, interactive=True))
        finally:
            machine.end()


def _file(graph: Graph, file: str) -> Path:
    if file:
        path = Path(file).expanduser().absolute()
    elif "init" in graph.recipes:
        path = graph.recipes["init"].folder / "files/init"
    else:
        raise KilnError("this project has no package `init`", where="FILE", hint=USAGE)
    if not path.is_file():
        raise KilnError(f"there is no file {path}", where="FILE", hint=USAGE)
    return path


class _Machine:
    """The machine of the last save, if it runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, argv: Sequence[str]) -> None:
        self._process = process.start(argv, stdin=None)

    def end(self) -> None:
        if self._process:
            self._process.terminate()  # and not killed: it gives the terminal back
            self._process.wait()
            self._process = None

    def has_ended(self) -> bool:
        """Whether it ended by itself since it was asked for."""
        if not self._process or self._process.poll() is None:
            return False
        self._process = None
        return True


def _saves(path: Path, machine: _Machine) -> Iterator[bytes]:
    """What the file holds, now and after each save."""
    shown = last = b""
    while True:
        process.check()
        try:
            found = path.read_bytes()
        except FileNotFoundError:  # an editor that is about to put another one there
            found = b""
        if found and found == last != shown:
            shown = found
            yield found
        last = found
        if machine.has_ended():
            print("\nthe machine has ended: the next save boots it again, Ctrl-C ends this", flush=True)
        time.sleep(_PAUSE)


def _with(base: Path, view: View, target: str, copy: Path, path: Path) -> Path:
    """The initramfs with the file in a segment of its own, with the mode and owner that it had."""
    old = view.files.get(target)
    *folders, item = packing.items({target: copy}, view)
    entry = item.entry
    if old and old.entry.kind == stat.S_IFREG:
        entry = replace(entry, mode=old.entry.mode, uid=old.entry.uid, gid=old.entry.gid)
    elif target == "init":
        entry = replace(entry, mode=stat.S_IFREG | 0o755)
    packing.append(base, path, [*folders, replace(item, entry=entry)], after=view.compressor)
    return path


def _shell(graph: Graph) -> list[str]:
    """The shell of the image, where this machine can run it."""
    if "busybox" not in graph.runtime() or graph.board.arch.name != platform.machine():
        return []
    busybox, libc = graph.result("busybox").entry(), graph.result("musl").entry()
    if not busybox or not libc:  # freed since the image was made
        return []
    box = busybox.root / "bin/busybox"
    loader = libc.root / f"lib/ld-musl-{graph.board.arch.name}.so.1"
    words = [os.fspath(loader)] if b"/lib/ld-musl" in box.read_bytes()[:4096] else []
    return [*words, os.fspath(box), "sh"]


def _syntax(shell: list[str], file: Path) -> str:
    """What the shell has against a script; nothing for what is none."""
    with file.open("rb") as data:
        if not shell or data.readline().split()[:1] != [b"#!/bin/sh"]:
            return ""
    try:
        process.run([*shell, "-n", os.fspath(file)])
    except process.CommandFailed as error:
        return error.message.partition(f"{file}: ")[2] or error.message
    return ""


def _give_terminal_back() -> None:
    """Let the terminal be as it is now in the end: a machine that is killed with us leaves it to itself."""
    if sys.stdin.isatty():
        atexit.register(termios.tcsetattr, sys.stdin, termios.TCSANOW, termios.tcgetattr(sys.stdin))
