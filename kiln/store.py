"""The store: what was built, by key. Entries are published by one rename and never change after.

::

    store/<name>-<version>-<key12>/{root/, log, stamp.json}     an entry
    store/work/<name>-<version>-<key12>/                        a build that runs, or failed and was kept
    store/.lock                                                 held by the one process that builds
"""

import errno
import fcntl
import json
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.errors import KilnError

# Every time stamp in an entry or an image, in seconds since 1970: 2026-01-01 00:00 UTC.
EPOCH = 1767225600

_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished result: ``root`` holds its files, ``inputs`` is what made them."""

    path: Path
    key: str
    digest: str
    inputs: dict[str, Any]
    notes: dict[str, Any]

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def log(self) -> Path:
        return self.path / "log"


@dataclass(frozen=True, kw_only=True)
class Work:
    """The folder of a build that runs: ``root`` becomes the entry's, the rest is thrown away."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path / "entry/root"

    @property
    def log(self) -> Path:
        return self.path / "entry/log"

    @property
    def failed(self) -> Path:
        """Holds the phase in which a build failed; where it is, the folder is kept for ``doit shell``."""
        return self.path / "failed"

    def note(self, text: str) -> None:
        """Add a line to the log, whose last line is what the progress shows."""
        with self.log.open("a") as log:
            print(text, file=log)

    def folder(self, name: str) -> Path:
        """A scratch folder beside the result, empty when first asked for."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path


Fill = Callable[[Work], dict[str, Any]]


class Store:
    """The entries below one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: int | None = None
        self._guard = threading.Lock()

    def entry_path(self, name: str, version: str, key: str) -> Path:
        return self.path / f"{name}-{version}-{key[:12]}"

    def work_path(self, name: str, version: str, key: str) -> Path:
        return self.path / "work" / self.entry_path(name, version, key).name

    def find(self, name: str, version: str, key: str) -> Entry | None:
        """The entry of that key; None where there is none, or what is there is not whole."""
        entry = _read(self.entry_path(name, version, key))
        return entry if entry and entry.key == key else None

    def entries(self, name: str) -> Iterator[Entry]:
        """All entries of a name, newest first, whatever their version."""
        for stamp in sorted(self.path.glob(f"{name}-*/stamp.json"), key=os.path.getmtime, reverse=True):
            entry = _read(stamp.parent)
            if entry and entry.inputs.get("name") == name:
                yield entry

    def build(self, name: str, version: str, inputs: dict[str, Any], fill: Fill, *, file_mode: int = 0o444) -> Entry:
        """Let ``fill`` make the files in a fresh work folder, then publish them.

        ``fill`` returns notes for the stamp. When it raises, its folder stays for ``doit shell``; when the whole
        process dies, the next one sweeps it away. Raises KilnError where the disk is full or not writable.
        """
        key = digest.of_value(inputs)
        work = Work(path=self.work_path(name, version, key))
        try:
            self.lock()
            found = self.find(name, version, key)
            if found:  # another process was faster while we waited for the lock
                return found
            remove(work.path)
            work.root.mkdir(parents=True)
            started = time.monotonic()
            notes = fill(work)
            seal(work.root, file_mode)
            tree = digest.of_tree(work.root).hash
            seconds = round(time.monotonic() - started, 1)
            made = {"key": key, "digest": tree, "inputs": inputs, "notes": notes, "seconds": seconds}
            with (work.path / "entry/stamp.json").open("w") as file:
                json.dump({"schema": _SCHEMA} | made, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            place = self.entry_path(name, version, key)
            remove(place)
            (work.path / "entry").rename(place)
            remove(work.path)
        except OSError as error:
            remove(work.path)
            hint = None
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
                free = shutil.disk_usage(self.path).free / 1e9 if self.path.exists() else 0.0
                hint = f"{free:.1f} GB are free there; set KILN_STORE to a folder of yours on a disk with room"
            message = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
            raise KilnError(message, where=os.fspath(self.path), hint=hint) from error
        except BaseException:
            if not work.failed.exists():
                remove(work.path)
            raise
        entry = _read(place)
        assert entry
        return entry

    def drop(self, name: str, version: str, key: str) -> bool:
        """Remove an entry and what a failed build of it left; tells whether there was anything."""
        places = (self.entry_path(name, version, key), self.work_path(name, version, key))
        there = [path for path in places if path.exists()]
        for path in there:
            remove(path)
        return bool(there)

    def lock(self) -> None:
        """Hold the store until this process ends; waits for another that builds, and says so. Sweeps leftovers."""
        with self._guard:
            if self._lock_file is not None:
                return
            self.path.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(file, 100, 0).decode(errors="replace").strip() or "another process"
                print(f"waiting  {self.path} is in use by {holder}", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()}\n".encode(), 0)
            self._lock_file = file
            for left in (self.path / "work").glob("*"):
                if not Work(path=left).failed.exists():
                    remove(left)


def seal(root: Path, file_mode: int = 0o444) -> None:
    """Give a tree one time stamp and plain modes, read-only for all that is not said otherwise."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, file_mode | 0o111 if mode & 0o111 else file_mode)
            elif stat.S_ISDIR(mode):
                os.chmod(path, 0o555)
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    os.chmod(root, 0o555)
    os.utime(root, (EPOCH, EPOCH))


def remove(path: Path) -> None:
    """Remove a tree, sealed or not; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> Entry | None:
    try:
        stamp = json.loads((path / "stamp.json").read_bytes())
        if stamp["schema"] != _SCHEMA or not (path / "root").is_dir():
            return None
        return Entry(path=path, **{name: stamp[name] for name in ("key", "digest", "inputs", "notes")})
    except (OSError, ValueError, KeyError, TypeError):
        return None
