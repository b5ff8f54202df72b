"""The one door to other programs: run them, keep their output in a log, and leave none behind."""

import os
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import IO, Any

from kiln.errors import KilnError

_running: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()
_lock = threading.Lock()
_stopping = False


class CommandFailed(KilnError):
    """A program ended with a status that is not 0."""

    def __init__(self, argv: Sequence[str], status: int, output: str = "") -> None:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(f"{os.path.basename(argv[0])} {how}" + (f": {output}" if output else ""))
        self.status = status


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    input: bytes | None = None,
    interactive: bool = False,
    pass_fds: Sequence[int] = (),
    leashed: bool = False,
) -> bytes:
    """Run a program to its end and return its standard output.

    With ``log``, both its streams go to the end of that file and nothing is returned; ``interactive`` hands it our own
    terminal. ``leashed`` ends it and all that it started even where we are killed, as the sandbox does without asking.
    Raises CommandFailed with the last lines of the error stream, and KilnError where it cannot be started.
    """
    words = [os.fspath(word) for word in argv]
    sink: IO[bytes] | nullcontext[int] = log.open("ab") if log else nullcontext(subprocess.PIPE)
    with sink as stdout:
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        stderr = subprocess.STDOUT if log else subprocess.PIPE
        streams = {"stdin": None} if interactive else {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        process = start([*(_leash() if leashed else ()), *words], env=env, pass_fds=pass_fds, **streams)
        try:
            out, err = process.communicate(input)
        except BaseException:
            process.kill()
            process.wait()
            raise
    check()  # what we ended did not fail
    if process.returncode:
        lines = (err or b"").decode(errors="replace").strip().splitlines()[-3:]
        raise CommandFailed(words, process.returncode, " / ".join(line.strip() for line in lines))
    return out or b""


@cache
def _leash() -> tuple[str, ...]:
    """The words that a leashed program is started by; none where this machine lacks or forbids them."""
    spaces = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child")
    words = ("setpriv", "--pdeathsig", "KILL", *spaces)
    try:
        run([*words, "true"])
    except KilnError:
        return ()
    return words


def start(argv: Sequence[str], *, stdin: int | None = subprocess.DEVNULL, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that ``stop_all`` will end with us; ``options`` are Popen's.

    Raises KilnError where it cannot be started.
    """
    with _lock:
        check()
        try:
            process = subprocess.Popen(argv, stdin=stdin, **options)
        except OSError as error:
            raise KilnError(f"cannot start {argv[0]}: {error.strerror}") from error
        _running.add(process)
    return process


def check() -> None:
    """Raise KeyboardInterrupt where ``stop_all`` was called."""
    if _stopping:
        raise KeyboardInterrupt


def stop_all() -> None:
    """End every program that is still running, and start no more."""
    global _stopping
    with _lock:
        _stopping = True
        for process in _running:
            process.kill()
