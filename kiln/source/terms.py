"""The terms of a source: the files that hold its licence, and which one it is where that is unmistakable."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_FILE = re.compile(r"(?i)(copying|licen[cs]es?|copyright|unlicense)([.-].*)?")

# Phrases that must all be there, and phrases that must not, in lower case with single blanks.
_BSD = ("redistributions of source code must retain", "redistributions in binary form must reproduce")
_TEXTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Apache-2.0": (("apache license version 2.0, january 2004",), ()),
    "BSD-2-Clause": (_BSD, ("endorse or promote", "advertising materials")),
    "BSD-3-Clause": ((*_BSD, "endorse or promote"), ("advertising materials",)),
    "GPL-2.0": (("gnu general public license version 2, june 1991",), ()),
    "GPL-3.0": (("gnu general public license version 3, 29 june 2007",), ()),
    "ISC": (("permission to use, copy, modify, and", "with or without fee is hereby granted, provided that"), ()),
    "LGPL-2.1": (("gnu lesser general public license version 2.1, february 1999",), ()),
    "LGPL-3.0": (("gnu lesser general public license version 3, 29 june 2007",), ()),
    "MIT": (("permission is hereby granted, free of charge, to any person obtaining a copy of this software and",), ()),
    "MPL-2.0": (("mozilla public license version 2.0 ",), ()),
    "Zlib": (("altered source versions must be plainly marked",), ()),
}  # fmt: skip

_SOURCES = (".c", ".h", ".cc", ".cpp", ".y", ".l", ".S", ".py", ".sh", ".pl")
# Terms stand at the top of a file.
_HEAD = 4096


def files(root: Path) -> tuple[str, ...]:
    """The paths of licence files, as names at the top of the source, or else in its folder LICENSES."""
    own = sorted(path.name for path in root.iterdir() if path.is_file() and _FILE.fullmatch(path.name))
    return tuple(own or sorted(f"LICENSES/{path.name}" for path in (root / "LICENSES").glob("*") if path.is_file()))


def texts(root: Path, names: Sequence[str]) -> list[str]:
    """The licences whose texts these files hold; of the GNU ones it is not said whether a later version will do."""
    found = set()
    for name in names:
        text = _plain((root / name).read_text(errors="replace"))
        for spdx, (present, absent) in _TEXTS.items():
            if all(phrase in text for phrase in present) and not any(phrase in text for phrase in absent):
                found.add(spdx)
    return sorted(found)


def expression(root: Path, names: Sequence[str]) -> str | None:
    """The SPDX expression of the whole source; None where it takes a person to say."""
    found = texts(root, names)
    if len(found) != 1 or len(names) != 1:
        return None
    if "GPL-" not in found[0]:
        return found[0]
    later = {_allows_later(head) for head in _heads(root)} - {None}
    return f"{found[0]}-or-later" if later == {True} else None


def _allows_later(head: str) -> bool | None:
    """Whether a source file may be had under a later version of the GNU licence; None where it does not say."""
    if "general public license" not in head and "spdx-license-identifier: " not in head:
        return None
    return "any later version" in head or "-or-later" in head or bool(re.search(r"gpl-[\d.]+\+", head))


def _heads(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(_SOURCES) and not os.path.islink(os.path.join(folder, name)):
                with open(os.path.join(folder, name), errors="replace") as file:
                    yield _plain(file.read(_HEAD))


def _plain(text: str) -> str:
    return re.sub(r"[\s*#/;\"]+", " ", text).lower()
