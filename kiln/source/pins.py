"""Pins: which files a source is, and the places that have them.

``content`` is the digest of the unpacked files without version-control metadata, so one pin serves a git tag and every
archive of the same files. A mirror without its own holds the same files as what it mirrors; a mirror with another one
is a repack, and a variant of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

from kiln.errors import KilnError

_COMMIT = (r"[0-9a-f]{40}", "40 hexadecimal digits in lower case")
_SHA256 = (r"[0-9a-f]{64}", "64 hexadecimal digits in lower case")
_CONTENT = (r"sha256:[0-9a-f]{64}", "'sha256:' and 64 hexadecimal digits in lower case")
_URL = (r"([a-z][a-z0-9+.-]*:|/)\S+", "a URL")
_TAG = (r"[^\s~^:?*\[\\-][^\s~^:?*\[\\]*", "the name of a tag")
_FILE = (r"[a-z0-9][a-z0-9+.-]+_[A-Za-z0-9.+~-]+", "a file name such as 'zlib_1.3.1.orig.tar.gz'")


@dataclass(frozen=True)
class Git:
    """A tag of a git repository. ``commit`` is the one the tag leads to, not the digest of an annotated tag."""

    url: str
    _: KW_ONLY
    tag: str
    commit: str
    content: str
    mirrors: "Sequence[Archive | Debian]" = ()

    def __post_init__(self) -> None:
        _check(self, url=_URL, tag=_TAG, commit=_COMMIT, content=_CONTENT)


@dataclass(frozen=True)
class Archive:
    """A tar archive. Without ``content`` its sha256 alone says what is in it."""

    url: str
    _: KW_ONLY
    sha256: str
    content: str | None = None
    mirrors: "Sequence[Archive | Debian]" = ()

    def __post_init__(self) -> None:
        _check(self, url=_URL, sha256=_SHA256, content=_CONTENT)

    @property
    def file(self) -> str:
        """The name of the file."""
        return re.split(r"[?#]", self.url)[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Debian:
    """A file of the Debian source archive, by its name."""

    file: str
    _: KW_ONLY
    sha256: str
    content: str | None = None

    def __post_init__(self) -> None:
        _check(self, file=_FILE, sha256=_SHA256, content=_CONTENT)


Origin: TypeAlias = Git | Archive | Debian
Source: TypeAlias = Origin


@dataclass(frozen=True)
class Variant:
    """The origins that promise the same files. ``content`` is their digest, or None where none was pinned."""

    content: str | None
    origins: tuple[Origin, ...]


def variants(source: Source) -> tuple[Variant, ...]:
    """The source and its mirrors, by the content that they promise, in the order they were written."""
    groups: dict[str | None, list[Origin]] = {source.content: [source]}
    for mirror in () if isinstance(source, Debian) else source.mirrors:
        groups.setdefault(mirror.content or source.content, []).append(mirror)
    return tuple(
        Variant(content.removeprefix("sha256:") if content else None, tuple(origins))
        for content, origins in groups.items()
    )


def _check(pin: Origin, **rules: tuple[str, str]) -> None:
    where = f"{type(pin).__name__}({pin.file if isinstance(pin, Debian) else pin.url!r})"
    for field, (pattern, expected) in rules.items():
        value = getattr(pin, field)
        optional = field == "content" and not isinstance(pin, Git)
        if not ((value is None and optional) or (isinstance(value, str) and re.fullmatch(pattern, value))):
            raise KilnError(f"{field} is {value!r}, expected {expected}", where=where)
    if not isinstance(pin, Debian):
        for mirror in pin.mirrors:
            if not isinstance(mirror, Archive | Debian) or (isinstance(mirror, Archive) and mirror.mirrors):
                raise KilnError(f"mirrors has {mirror!r}, expected Archive or Debian, without mirrors", where=where)
        object.__setattr__(pin, "mirrors", tuple(pin.mirrors))
