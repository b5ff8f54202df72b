"""One GNU make jobserver for all packages: as many tokens as processes may compile, whoever they belong to.

The pipe style (``--jobserver-auth=R,W``) is the one that make 4.3 knows and that passes into a sandbox.
"""

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobserver:
    """A pipe that holds a byte for each free processor."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._read, self._write = os.pipe()
        self._running = 0
        self._lock = threading.Lock()
        # make does the same to the end that it shares with us: so no read may count on waiting.
        os.set_blocking(self._read, False)
        os.write(self._write, b"+" * tokens)

    @property
    def fds(self) -> tuple[int, int]:
        """What a client must inherit."""
        return self._read, self._write

    @property
    def makeflags(self) -> str:
        """The value of ``MAKEFLAGS`` for a client."""
        return f" -j{self.tokens} --jobserver-auth={self._read},{self._write}"

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold the token that every client has without asking; waits until one is free."""
        while not self._take(wait=True):
            pass
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                os.write(self._write, b"+")
                if not self._running:
                    self._refill()

    def free(self) -> int:
        """How many tokens lie in the pipe while no client runs."""
        with self._lock:
            count = self._drain()
            os.write(self._write, b"+" * count)
            return count

    def _refill(self) -> None:
        """Make up for the tokens that killed clients took with them."""
        self._drain()
        os.write(self._write, b"+" * self.tokens)

    def _drain(self) -> int:
        count = 0
        while self._take(wait=False):
            count += 1
        return count

    def _take(self, *, wait: bool) -> bool:
        """Take a token if there is one; with ``wait``, first until there seems to be."""
        if wait:
            select.select([self._read], [], [])
        try:
            return bool(os.read(self._read, 1))
        except BlockingIOError:
            return False
