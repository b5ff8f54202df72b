"""The one door to other programs: run them, keep their output in a log, and leave none behind."""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from kiln.errors import KilnError

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_stopping = False


class CommandFailed(KilnError):
    """A program ended with a status that is not 0."""

    def __init__(self, argv: Sequence[str], status: int, output: str = "") -> None:
        name = os.path.basename(argv[0])
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(f"{name} {how}" + (f": {output}" if output else ""))
        self.status = status


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    input: bytes | None = None,
    interactive: bool = False,
    pass_fds: Sequence[int] = (),
) -> bytes:
    """Run a program to its end and return its standard output.

    With ``log``, both its streams go to the end of that file and nothing is returned; ``interactive`` hands it our own
    terminal. Raises CommandFailed with the last lines of the error stream, and KilnError where it cannot be started.
    """
    words = [os.fspath(word) for word in argv]
    sink: IO[bytes] | None = log.open("ab") if log else None
    stdout = None if interactive else sink or subprocess.PIPE
    stderr = None if interactive else subprocess.STDOUT if sink else subprocess.PIPE
    stdin = None if interactive else subprocess.PIPE if input is not None else subprocess.DEVNULL
    try:
        process = start(words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds)
        try:
            out, err = process.communicate(input)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with _lock:
                _running.discard(process)
    finally:
        if sink:
            sink.close()
    if _stopping:  # what we ended did not fail
        raise KeyboardInterrupt
    if process.returncode:
        raise CommandFailed(words, process.returncode, _last_lines(err))
    return out or b""


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that ``stop_all`` will end with us. Raises KilnError where it cannot be started."""
    with _lock:
        if _stopping:
            raise KeyboardInterrupt
        try:
            process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds
            )
        except OSError as error:
            raise KilnError(f"cannot start {argv[0]}: {error.strerror}") from error
        _running.add(process)
    return process


def stop_all() -> None:
    """End every program that is still running, and start no more."""
    global _stopping
    with _lock:
        _stopping = True
        processes = list(_running)
    for process in processes:
        process.kill()


def _last_lines(data: bytes | None) -> str:
    lines = (data or b"").decode(errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-3:])
