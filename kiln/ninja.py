"""Runs ninja, which does not speak make's jobserver, with as many jobs as are free when it starts."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def tokens(makeflags: str) -> Iterator[int | None]:
    """How many jobs one may run: the one that everybody has, and those taken from the jobserver until the end.

    None where ``makeflags`` names no jobserver.
    """
    auth = re.search(r"--jobserver-auth=(\d+),(\d+)", makeflags)
    if not auth:
        yield None
        return
    taken = b""
    with suppress(BlockingIOError):
        taken = os.read(int(auth[1]), 1024)
    try:
        yield 1 + len(taken)
    finally:
        os.write(int(auth[2]), taken)


if __name__ == "__main__":
    with tokens(os.environ.get("MAKEFLAGS", "")) as jobs:
        sys.exit(subprocess.run(["ninja", *([f"-j{jobs}"] if jobs else []), *sys.argv[1:]], close_fds=False).returncode)
