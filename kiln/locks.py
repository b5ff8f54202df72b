"""Locks on files and folders, which end with the process that holds them."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln import process
from kiln.errors import say

# Seconds between two looks at a lock that somebody else has.
_POLL = 0.1


def take(file: int, kind: int, what: str) -> None:
    """Lock a file; waits, and says for what. Not by a blocking call, from which no signal wakes a thread."""
    if attempt(file, kind):
        return
    say(f"waiting  for {what}")
    while not attempt(file, kind):
        time.sleep(_POLL)
        process.check()


def claim(path: Path, *, wait: bool) -> int | None:
    """The locked folder ``path``, open; None where another process has it, or has just removed it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if wait:
            take(file, fcntl.LOCK_EX, f"{path.name}, which another process builds")
        if (wait or attempt(file, fcntl.LOCK_EX)) and os.path.samestat(os.fstat(file), os.stat(path)):
            return file
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def attempt(file: int, kind: int) -> bool:
    """Lock a file if nobody else has it; tells whether it is ours."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def closing(file: int) -> Iterator[None]:
    """Close a file in the end, which unlocks it."""
    try:
        yield
    finally:
        os.close(file)
