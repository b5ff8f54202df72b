"""The serial line: what a machine printed and when, for no longer than it may take."""

import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from kiln import process

# Terminal escapes (cursor, colour, title …), and the control characters that are no part of a text.
_NOISE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f]")

# Who asks for a secret throws away what was typed before it has turned off the echo. So an answer waits for a moment,
# and comes again where nothing followed, in seconds.
_PAUSE, _AGAIN = 0.5, 10.0

Ending = Literal["exit", "timeout", "silent"]


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was printed, each line with the seconds since the start; ``status`` is None where we ended the machine."""

    lines: tuple[tuple[float, str], ...]
    status: int | None
    ended: Ending
    seconds: float


def record(
    argv: Sequence[str], log: Path, *, timeout: float, silence: float, answers: Mapping[str, str] = {}
) -> Transcript:
    """Run a machine to its end, but for ``timeout`` seconds at most and ``silence`` seconds without a word.

    Where it asks one of ``answers`` and waits, that is what it is told. The stamped lines go to ``log`` as they come.
    The machine never outlives this call.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", buffering=1) as file:
        child = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        start = time.monotonic()
        lines = _Lines(file, start)
        try:
            ended = _read(child, lines, start + timeout, silence, answers)
        finally:
            child.kill()
            child.wait()
            lines.flush()
            assert child.stdin and child.stdout
            child.stdin.close()
            child.stdout.close()
    status = child.returncode if ended == "exit" else None
    return Transcript(lines=tuple(lines.done), status=status, ended=ended, seconds=time.monotonic() - start)


def _read(
    child: subprocess.Popen[bytes], lines: "_Lines", deadline: float, silence: float, answers: Mapping[str, str]
) -> Ending:
    assert child.stdin and child.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        heard = time.monotonic()
        told, answered = (-1, ""), 0.0
        while True:
            now = time.monotonic()
            if now >= deadline:
                return "timeout"
            if now >= heard + silence:
                return "silent"
            wait = min(deadline, heard + silence) - now
            if question := lines.asked(answers):
                due = answered + _AGAIN if told == (len(lines.done), question) else heard + _PAUSE
                if now >= due:
                    with suppress(BrokenPipeError):  # it did not wait for the answer
                        child.stdin.write(f"{answers[question]}\n".encode())
                        child.stdin.flush()
                    told, answered = (len(lines.done), question), now
                    due = now + _AGAIN
                wait = min(wait, due - now)
            if selector.select(wait):
                data = os.read(child.stdout.fileno(), 65536)
                if not data:
                    break
                heard = time.monotonic()
                lines.feed(data, heard)
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "timeout"
    return "exit"


class _Lines:
    """Cuts a stream into lines, each stamped when its first byte came."""

    def __init__(self, file: TextIO, start: float) -> None:
        self.done: list[tuple[float, str]] = []
        self._file = file
        self._start = start
        self._partial = bytearray()
        self._since = start

    def feed(self, data: bytes, now: float) -> None:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._take(piece, now)
            self._end()
        if rest:
            self._take(rest, now)

    def asked(self, questions: Iterable[str]) -> str | None:
        """The one of ``questions`` that the line which has not ended yet holds."""
        text = self._partial.decode(errors="replace")
        return next((question for question in questions if question in text), None)

    def flush(self) -> None:
        if self._partial:
            self._end()

    def _take(self, piece: bytes, now: float) -> None:
        if not self._partial:
            self._since = now
        self._partial += piece

    def _end(self) -> None:
        stamp = self._since - self._start
        text = _NOISE.sub("", self._partial.decode(errors="replace"))
        self._partial.clear()
        self.done.append((stamp, text))
        self._file.write(f"[{stamp:9.3f}] {text}\n")
