"""The table: a fixed set of names that clients may ask for, and nothing else of this machine."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError

_LONGEST_NAME = 80


class Item:
    """A file on the table, as it was when it was put there: no client makes us open one."""

    def __init__(self, content: Path | bytes) -> None:
        self._bytes = content if isinstance(content, bytes) else b""
        self._file = None if isinstance(content, bytes) else content.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size if self._file else len(self._bytes)

    def read(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start`` on, fewer only at the end."""
        return os.pread(self._file.fileno(), count, start) if self._file else self._bytes[start : start + count]

    def close(self) -> None:
        if self._file:
            self._file.close()


class Table(Mapping[str, Item]):
    """What is offered, by name. It keeps its files open until ``close``."""

    def __init__(self, contents: Mapping[str, Path | bytes]) -> None:
        self._items: dict[str, Item] = {}
        for name, content in sorted(contents.items()):
            try:
                self._items[name] = Item(content)
            except OSError as error:
                self.close()
                raise KilnError(f"cannot be offered: {error.strerror}", where=error.filename) from error

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def close(self) -> None:
        for item in self._items.values():
            item.close()

    def index(self) -> str:
        """A line for each name, with its size in bytes."""
        return "".join(f"{item.size:>12}  {name}\n" for name, item in self.items())


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked for and got: ``status`` is its protocol's word, ``sent`` is in bytes of content."""

    client: str
    protocol: str
    name: str
    status: str
    sent: int

    def __str__(self) -> str:
        # What came from outside must not steer the terminal.
        name = self.name if self.name.isascii() and self.name.isprintable() else ascii(self.name)
        short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        stamp = time.strftime("%H:%M:%S")
        return f"{stamp}  {self.client:<15}  {self.protocol}  {self.status:<10}  {self.sent:>10}  {short}"


# Is told of each request, by several threads at once.
Report = Callable[[Request], None]


def lay_out(contents: Mapping[str, Path | bytes], folder: Path) -> None:
    """The same names as files and links in ``folder``, for a server that is not ours."""
    for name, content in contents.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            place.symlink_to(content.absolute())
