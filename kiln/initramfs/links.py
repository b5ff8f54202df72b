"""Which libraries each program of an initramfs is linked against, found as its loader would."""

import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from kiln.initramfs.program import Program, program
from kiln.initramfs.view import View

# Where loaders look: musl's first, glibc's too, and Debian's folders by architecture.
_FOLDERS = ("lib", "usr/local/lib", "usr/lib", "lib64", "usr/lib64")
_BY_ARCHITECTURE = re.compile(r"(?:usr/)?lib/[\w]+-linux-\w+")


@dataclass(kw_only=True)
class Links:
    """The ``programs`` of a view that kept its files, by path."""

    view: View
    programs: dict[str, Program] = field(init=False)
    _folders: list[str] = field(init=False)

    def __post_init__(self) -> None:
        found = ((path, program(file.data)) for path, file in self.view.matching(".*"))
        self.programs = {path: one for path, one in found if one}
        own = (path for path in sorted(self.view.files) if _BY_ARCHITECTURE.fullmatch(path))
        self._folders = [*_FOLDERS, *own]

    def libraries(self, path: str) -> Iterator[tuple[str, str | None]]:
        """The libraries that a program names, and where they are; None where they are not."""
        one = self.programs[path]
        origin = posixpath.dirname(path)
        own = [folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for folder in one.folders]
        for name in one.needed:
            places = [name] if "/" in name else [f"{folder}/{name}" for folder in (*own, *self._folders)]
            yield name, next((found for place in places if (found := self.view.find(place))), None)

    def all_needed(self, path: str) -> set[str]:
        """All that must be there for a program to start, by path, as far as it is."""
        needed: set[str] = set()
        pending = [path]
        while pending:
            current = pending.pop()
            one = self.programs.get(current)
            if not one:
                continue
            found = {place for _, place in self.libraries(current) if place}
            if one.interpreter and (place := self.view.find(one.interpreter)):
                found.add(place)
            pending += found - needed
            needed |= found
        return needed

    def can_run(self, path: str) -> bool:
        """Whether a path leads to a file that may be executed."""
        place = self.view.find(path)
        entry = self.view.files[place].entry if place else None
        return bool(entry and entry.kind == stat.S_IFREG and entry.mode & 0o111)
