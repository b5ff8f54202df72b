"""What a run shows: a line for each finished target, and below them one live line with what is running."""

import shutil
import sys
import threading
import time
from typing import Any, TextIO

from doit.reporter import ConsoleReporter
from tqdm import tqdm

from kiln.target import Target

_REFRESH = 0.5
_TAIL = 400
# Columns that "[17/22] " takes, and one that stays free.
_COUNTER = 11


class Progress(ConsoleReporter):  # type: ignore[misc]
    """A doit reporter. On a terminal there is a live line; elsewhere starts and ends are plain lines."""

    desc = "lines for finished targets, and a live line on a terminal"

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        super().__init__(outstream, options)
        self._running: dict[str, tuple[float, Target | None]] = {}
        self._lock = threading.Lock()
        self._bar: tqdm[Any] | None = None
        self._quiet = threading.Event()

    def initialize(self, tasks: dict[str, Any], selected: list[str]) -> None:
        wanted, pending = set(), list(selected)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += tasks[name].task_dep
        total = sum(1 for name in wanted if tasks[name].actions)
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, bar_format="[{n_fmt}/{total_fmt}] {desc}", leave=False, file=sys.stderr)
            threading.Thread(target=self._refresh, daemon=True).start()

    def execute_task(self, task: Any) -> None:
        if not task.actions:
            return
        action = task.actions[0]
        if action.interactive:
            self._end_bar()
        with self._lock:
            self._running[task.name] = (time.monotonic(), action.target)
        if not self._bar and action.target:
            self._line("start", task.name)

    def add_success(self, task: Any) -> None:
        seconds = self._done(task)
        if task.actions and task.actions[0].target:
            target = task.actions[0].target
            local = "local" if target.local else None
            word = "built" if target.made else "linked"
            self._line(word, task.name, duration(seconds), local, getattr(target, "place", None))

    def skip_uptodate(self, task: Any) -> None:
        self._done(task)
        target = task.actions[0].target if task.actions else None
        if target and not target.lazy:
            self._line("cached", task.name, getattr(target, "place", None), flush=False)

    def add_failure(self, task: Any, fail: Any) -> None:
        self._done(task)
        self.failures.append({"task": task, "exception": fail})
        if fail.get_name() == "UnmetDependency":
            return
        text = fail.message + ("\n" + "".join(fail.traceback) if fail.traceback else "")
        self._line("FAILED", task.name)
        self._write("".join(f"  {line}\n" for line in text.splitlines()))

    def complete_run(self) -> None:
        self._end_bar()
        self._write("".join(f"{line}\n" for line in self.runtime_errors))

    def _end_bar(self) -> None:
        """The terminal is another's now: even tqdm's own thread must not draw on it."""
        self._quiet.set()
        with self._lock:
            bar, self._bar = self._bar, None
            if bar:
                bar.close()

    def _done(self, task: Any) -> float:
        with self._lock:
            started, _ = self._running.pop(task.name, (time.monotonic(), None))
            if self._bar and task.actions:
                self._bar.update()
        return time.monotonic() - started

    def _line(self, word: str, name: str, *notes: str | None, flush: bool = True) -> None:
        text = "  ".join([f"{word:<6}", f"{name:<22}", *(note for note in notes if note)]).rstrip() + "\n"
        self._write(text, flush=flush)

    def _write(self, text: str, *, flush: bool = True) -> None:
        with self._lock:
            if self._bar:
                self._bar.clear()
            self.outstream.write(text)
            if flush:  # what is up to date comes by the thousand, and can wait for the next line
                self.outstream.flush()

    def _refresh(self) -> None:
        while not self._quiet.wait(_REFRESH):
            with self._lock:
                shown = sorted(self._running.items(), key=lambda item: item[1][0])
                parts = [f"{name} {duration(time.monotonic() - start)}" for name, (start, _) in shown]
                tail = _tail(shown[0][1][1]) if shown else ""
                if self._bar:
                    room = shutil.get_terminal_size().columns - _COUNTER
                    self._bar.set_description_str("   ".join([", ".join(parts), tail])[:room])


def duration(seconds: float) -> str:
    """``41 s`` or ``2:31``."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def _tail(target: Target | None) -> str:
    """The last line of a running target's log."""
    key = target.key() if target else None
    if not target or not key:
        return ""
    log = target.store.work(target.name, target.version, key).log
    try:
        lines = log.read_bytes()[-_TAIL:].decode(errors="replace").splitlines()
    except OSError:  # not begun, or just finished
        return ""
    return " ".join(lines[-1].split()) if lines else ""
