"""Pins: which files a source is, and the places that have them.

``content`` is the digest of the unpacked files without version-control metadata, so one pin serves a git tag and every
archive of the same files. A mirror without its own holds the same files as what it mirrors; a mirror with another one
is a repack, and a variant of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import TypeAlias

from kiln.errors import KilnError

# What each field looks like, and that in words.
_RULES = {
    "url": (r"([a-z][a-z0-9+.-]*:|/)\S+", "a URL"),
    "file": (r"[a-z0-9][a-z0-9+.-]+_[A-Za-z0-9.+~_-]+", "a file name such as 'zlib_1.3.1.orig.tar.gz'"),
    "component": (r"main|contrib|non-free|non-free-firmware", "main, contrib, non-free or non-free-firmware"),
    "tag": (r"[^\s~^:?*\[\\-][^\s~^:?*\[\\]*", "the name of a tag"),
    "commit": (r"[0-9a-f]{40}", "40 hexadecimal digits in lower case"),
    "sha256": (r"[0-9a-f]{64}", "64 hexadecimal digits in lower case"),
    "content": (r"sha256:[0-9a-f]{64}", "'sha256:' and 64 hexadecimal digits in lower case"),
}


class _Pin:
    def __post_init__(self) -> None:
        """Check each field, as it may come from a recipe."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        where = f"{type(self).__name__}({next(iter(values.values()))!r})"
        if values["content"] is None and not isinstance(self, Git):
            del values["content"]
        mirrors = tuple(values.pop("mirrors", ()))
        for name, value in values.items():
            pattern, expected = _RULES[name]
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise KilnError(f"{name} is {value!r}, expected {expected}", where=where)
        for mirror in mirrors:
            if not isinstance(mirror, Archive | Debian) or (isinstance(mirror, Archive) and mirror.mirrors):
                raise KilnError(f"mirrors has {mirror!r}, expected Archive or Debian, without mirrors", where=where)
        if not isinstance(self, Debian):
            object.__setattr__(self, "mirrors", mirrors)


@dataclass(frozen=True)
class Git(_Pin):
    """A tag of a git repository. ``commit`` is the one the tag leads to, not the digest of an annotated tag."""

    url: str
    _: KW_ONLY
    tag: str
    commit: str
    content: str
    mirrors: "Sequence[Archive | Debian]" = ()


@dataclass(frozen=True)
class Archive(_Pin):
    """A tar archive. Without ``content`` its sha256 alone says what is in it."""

    url: str
    _: KW_ONLY
    sha256: str
    content: str | None = None
    mirrors: "Sequence[Archive | Debian]" = ()

    @property
    def file(self) -> str:
        return re.split(r"[?#]", self.url)[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Debian(_Pin):
    """A file of the Debian archive, by its name: of a source, or a package that has the source's name."""

    file: str
    _: KW_ONLY
    sha256: str
    content: str | None = None
    component: str = "main"


Source: TypeAlias = Git | Archive | Debian


@dataclass(frozen=True)
class Variant:
    """The origins that promise the same files. ``content`` is their digest, or None where none was pinned."""

    content: str | None
    origins: tuple[Source, ...]


def variants(source: Source) -> tuple[Variant, ...]:
    """The source and its mirrors, by the content that they promise, in the order they were written."""
    groups: dict[str | None, list[Source]] = {source.content: [source]}
    for mirror in () if isinstance(source, Debian) else source.mirrors:
        groups.setdefault(mirror.content or source.content, []).append(mirror)
    return tuple(Variant(content and content.removeprefix("sha256:"), tuple(them)) for content, them in groups.items())
