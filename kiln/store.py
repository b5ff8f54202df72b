"""The store: what was built, by key. Entries are published by one rename and never change after.

::

    store/<name>-<version>-<key12>/{root/, log, files.json, stamp.json}     an entry
    store/work/<name>-<version>-<key12>/                                    a build that runs, or failed and was kept
    store/roots/                                                            what each image reaches, for gc
    store/ccache/                                                           the compilers' cache
    store/format                                                            the number of this layout
    store/.lock                                                             shared by those who build, for gc to wait
"""

import errno
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.errors import UNWRITABLE, KilnError, say
from kiln.locks import claim, closing, take
from kiln.trees import remove, seal

# Goes up with the layout, and with any change of the engine that alters results without altering their inputs.
FORMAT = 2

# With fewer free bytes than this, whatever fails does so for want of room.
_SCARCE = 1 << 18

_ELSEWHERE = "set KILN_STORE to a folder of yours on a disk with room"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished result: ``root`` holds its files, ``inputs`` is what made them, in ``seconds``."""

    path: Path
    key: str
    digest: str
    inputs: dict[str, Any]
    notes: dict[str, Any]
    seconds: float

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def log(self) -> Path:
        return self.path / "log"

    def damage(self) -> list[str]:
        """The paths of the result, and how each is not what was built; nothing where all is well."""
        try:
            known: dict[str, str] = json.loads((self.path / "files.json").read_bytes())
            tree, found = digest.read_tree(self.root)
        except (OSError, ValueError) as error:
            return [f"cannot be read ({error})"]
        words = {path: "is missing" for path in known if path not in found}
        words |= {
            path: "was altered" if path in known else "was added" for path in found if known.get(path) != found[path]
        }
        differs = [] if words or tree.hash == self.digest else ["files.json or stamp.json was altered"]
        return [f"{path} {word}" for path, word in sorted(words.items())] + differs


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

    def clear(self) -> None:
        """Remove what an earlier build left, and be ready for the next."""
        for left in self.path.iterdir():
            remove(left)
        self.root.mkdir(parents=True)


Fill = Callable[[Work], dict[str, Any]]


class Store:
    """The entries below one folder. What ``shared`` folders hold is found too; they are only read.

    ``local`` is the store of what must never leave this machine. Raises KilnError for a folder that a newer kiln wrote.
    """

    def __init__(self, path: Path, *, shared: Sequence[Path] = (), local: "Store | None" = None) -> None:
        self.path = path
        self.local = local or self
        self._places = (path, *shared)
        self._lock_file: int | None = None
        self._swept = False
        self._guard = threading.Lock()
        for place in self._places:
            _check_format(place)

    def entry_path(self, name: str, version: str, key: str) -> Path:
        return self.path / f"{name}-{version}-{key[:12]}"

    def work(self, name: str, version: str, key: str) -> Work:
        return Work(path=self.path / "work" / f"{name}-{version}-{key[:12]}")

    def find(self, name: str, version: str, key: str) -> Entry | None:
        """The entry of that key; None where there is none, or what is there is not whole."""
        for place in self._places:
            entry = read(place / f"{name}-{version}-{key[:12]}")
            if entry and entry.key == key:
                return entry
        return None

    def entries(self, name: str = "") -> Iterator[Entry]:
        """All entries of this store, or those of a name, newest first, whatever their version."""
        for stamp in sorted(self.path.glob(f"{name}*/stamp.json"), key=_written, reverse=True):
            entry = read(stamp.parent)
            if entry and name in ("", entry.inputs.get("name")):
                yield entry

    def illegible(self) -> Iterator[tuple[Path, str]]:
        """The folders of this store whose stamp is damaged, and how; none of them is an entry."""
        for stamp in sorted(self.path.glob("*/stamp.json")):
            try:
                _read(stamp.parent)
            except ValueError as error:
                yield stamp.parent, str(error)

    def build(
        self,
        name: str,
        version: str,
        inputs: dict[str, Any],
        fill: Fill,
        *,
        file_mode: int = 0o444,
        replace: bool = False,
    ) -> Entry:
        """Let ``fill`` make the files in a fresh work folder, then publish them; ``replace`` an entry that is there.

        ``fill`` returns notes for the stamp. When it raises, its folder stays for ``doit shell``; when the whole
        process dies, the next one sweeps it away. Raises KilnError where the disk is full or not writable.
        """
        key = digest.of_value(inputs)
        place = self.entry_path(name, version, key)
        found = None if replace else self.find(name, version, key)
        if found:
            return found
        try:
            self.use()
            with self.hold(self.work(name, version, key)) as work, self._room(work):
                # Another process may have been faster while we waited for the work folder.
                found = None if replace else self.find(name, version, key)
                if found:
                    return found
                work.clear()
                started = time.monotonic()
                notes = fill(work)
                seal(work.root, file_mode)
                tree, files = digest.read_tree(work.root)
                seconds = round(time.monotonic() - started, 1)
                _write(work.path / "entry/files.json", files)
                made = {"key": key, "digest": tree.hash, "notes": notes}
                stamp = {"format": FORMAT, "inputs": inputs, "seconds": seconds, "seal": digest.of_value(made)} | made
                _write(work.path / "entry/stamp.json", stamp)
                remove(place)
                (work.path / "entry").rename(place)
        except OSError as error:
            hint = _ELSEWHERE if error.errno in UNWRITABLE else None
            message = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
            raise KilnError(message, where=os.fspath(self.path), hint=hint) from error
        entry = read(place)
        assert entry
        return entry

    @contextmanager
    def _room(self, work: Work) -> Iterator[None]:
        """Tell a failure for want of room as such, and keep nothing of it; whoever failed may have said no reason."""
        try:
            yield
        except (KilnError, OSError) as error:
            full = shutil.disk_usage(self.path).free < _SCARCE
            ours = isinstance(error, OSError) or not error.where
            if ours and (full or "No space left" in str(error)):
                work.failed.unlink(missing_ok=True)  # else what failed would keep the disk full
                hint = f"the disk of {self.path} is full: make room, or {_ELSEWHERE}"
                where = os.fspath(self.path) if isinstance(error, OSError) else None
                raise KilnError(getattr(error, "strerror", None) or str(error), where=where, hint=hint) from error
            raise

    def remember(self, owner: str, entries: list[str]) -> None:
        """Note which entries, by their folders' names, an owner's image reaches; an owner is an output folder."""
        place = self.path / "roots" / digest.of_value(owner)[:12]
        try:
            self.use()
            place.parent.mkdir(exist_ok=True)
            with self.hold(Work(path=self.path / "work" / place.name)) as work, self._room(work):
                _write(work.path / "roots", {"owner": owner, "entries": entries})
                (work.path / "roots").rename(place)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):  # where nobody can write, nobody frees room either
                raise

    def roots(self) -> dict[str, list[str]]:
        """What was last remembered, by owner."""
        found = {}
        for path in sorted((self.path / "roots").glob("*")):
            try:
                value = json.loads(path.read_bytes())
                found[value["owner"]] = value["entries"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                say(f"damaged  {path} ({error}); the next image of its board writes it anew")
        return found

    def drop(self, name: str, version: str, key: str) -> bool:
        """Remove an entry and what a failed build of it left; tells whether there was anything."""
        places = (self.entry_path(name, version, key), self.work(name, version, key).path)
        there = [path for path in places if path.exists()]
        if there:
            with self.alone():
                for path in there:
                    remove(path)
        return bool(there)

    def use(self) -> None:
        """Keep gc away until this process ends."""
        with self._guard:
            if self._lock_file is not None:
                return
            file = self._open_lock()
            take(file, fcntl.LOCK_SH, f"{self.path} until it is cleaned up")
            _check_format(self.path)
            _write_format(self.path / "format")
            self._lock_file = file
        self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left, once; as far as it can be written, which is no reason to fail."""
        with self._guard, suppress(OSError):
            for left in () if self._swept else (self.path / "work").glob("*"):
                folder = claim(left, wait=False)
                if folder is not None:
                    with closing(folder):
                        if not Work(path=left).failed.exists():
                            remove(left)
            self._swept = True

    def release(self) -> None:
        """Build no more for now, so that nobody waits for us."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the store while nobody else builds in it; waits, and says so."""
        file = self._open_lock() if self._lock_file is None else self._lock_file
        try:
            take(file, fcntl.LOCK_EX, f"{self.path} until nobody builds in it")
            yield
        finally:
            if file == self._lock_file:
                fcntl.flock(file, fcntl.LOCK_SH)
            else:
                os.close(file)

    def _open_lock(self) -> int:
        (self.path / "work").mkdir(parents=True, exist_ok=True)
        return os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @contextmanager
    def hold(self, work: Work) -> Iterator[Work]:
        """Have a work folder to oneself, until a build succeeds; waits for another process, and says so."""
        folder = None
        while folder is None:
            work.path.mkdir(parents=True, exist_ok=True)
            folder = claim(work.path, wait=True)
        with closing(folder):
            try:
                yield work
            finally:
                if not work.failed.exists():
                    remove(work.path)


def read(path: Path) -> Entry | None:
    """The entry in a folder; None where it is not finished, not whole, or of another format."""
    try:
        return _read(path)
    except ValueError as error:
        say(f"damaged  {path}/stamp.json ({error}); what it stood for is made again")
        return None


def condemn(path: Path) -> None:
    """Let nobody find the entry in a folder again, so that the next run makes it anew."""
    (path / "stamp.json").unlink(missing_ok=True)


def _read(path: Path) -> Entry | None:
    """As `read`; ValueError where the stamp is damaged."""
    try:
        with open(f"{path}/stamp.json", "rb") as file:
            text = file.read()
    except OSError:
        return None
    try:
        stamp = json.loads(text)
        if stamp.get("format") != FORMAT or not os.path.isdir(f"{path}/root"):
            return None
        made = {name: stamp[name] for name in ("key", "digest", "notes")}
        if stamp["seal"] != digest.of_value(made):
            raise ValueError("its seal does not fit")
        return Entry(path=path, inputs=stamp["inputs"], seconds=stamp["seconds"], **made)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _write(path: Path, value: Any) -> None:
    with path.open("w") as file:
        file.write(json.dumps(value, sort_keys=True, separators=(",\n", ": ")))
        file.flush()
        os.fsync(file.fileno())


def _check_format(path: Path) -> None:
    try:
        text = (path / "format").read_text().strip()
    except OSError:  # a new store, or no store at all
        return
    if text and (not text.isdigit() or int(text) > FORMAT):
        message = f"this store was written by a newer kiln (its format is {text}, this one knows {FORMAT})"
        hint = "update kiln, or set KILN_STORE (or KILN_SHARED) to another folder"
        raise KilnError(message, where=os.fspath(path), hint=hint)


def _write_format(path: Path) -> None:
    if not path.exists() or path.read_text() != f"{FORMAT}\n":
        path.write_text(f"{FORMAT}\n")
