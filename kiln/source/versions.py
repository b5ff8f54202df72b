"""Versions, and the names that projects give them in tags and files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

ARCHIVE = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lzma)|tgz|tbz2|txz|tar)$")
DEBIAN = re.compile(r"([a-z0-9][a-z0-9+.-]+)_([A-Za-z0-9.+~-]+)\.orig\.tar\.(gz|bz2|xz|zst)")

_UNFINISHED = re.compile(r"(?i)(alpha|beta|rc|pre|dev|test|snapshot|git|nightly)(?![a-z])")
# What Debian adds to a version whose files it changed.
_REPACKED = re.compile(r"[.+~](dfsg|ds|repack|debian)[\d.]*$")


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a project makes a label, such as the tag ``V_10_0_P2``, of a version, such as ``10.0p2``.

    ``joints`` leads from what stands between two numbers of a label to what stands there in the version, ``prefix``
    and ``suffix`` are those of the label and of the version, ``numbers`` is how many a label has at least.
    """

    prefix: tuple[str, str]
    suffix: tuple[str, str]
    joints: Mapping[str, str]
    numbers: int

    @staticmethod
    def of(label: str, version: str) -> "Scheme | None":
        """The scheme by which ``label`` is made of ``version``; None where they have nothing in common."""
        ours, theirs = (re.split(r"(\d+)", text) for text in (version, label))
        count = len(ours) // 2
        if not count or len(theirs) < len(ours):
            return None
        prefix, body = "".join(theirs[: -2 * count]), theirs[-2 * count :]
        same = [int(number) for number in body[::2]] == [int(number) for number in ours[1::2]]
        pairs = list(zip(body[1:-1:2], ours[2:-1:2], strict=True))
        if (len(theirs) != len(ours) and not same) or len(set(pairs)) != len(dict(pairs)):
            return None
        return Scheme(
            prefix=(prefix, ours[0]),
            suffix=(body[-1], ours[-1]),
            joints=dict(pairs) or {".": "."},
            numbers=min(count, 2),
        )

    def version(self, label: str) -> str | None:
        """The version that a label stands for; None where it is of another kind, such as a pre-release."""
        if not label.startswith(self.prefix[0]):
            return None
        first, *body, last = re.split(r"(\d+)", label[len(self.prefix[0]) :])
        if first or last != self.suffix[0] or len(body) < 2 * self.numbers - 1:
            return None
        if any(joint not in self.joints for joint in body[1::2]):
            return None
        words = [self.joints[word] if place % 2 else word for place, word in enumerate(body)]
        return "".join([self.prefix[1], *words, self.suffix[1]])


def in_order(versions: Iterable[str]) -> list[str]:
    """Released versions, oldest first: pre-releases are left out."""
    names = {name for name in versions if not _UNFINISHED.search(name)}
    parsed = {name: _parse(name) for name in names}
    if any(version is None for version in parsed.values()):
        return sorted(names, key=natural)
    return sorted(names, key=lambda name: (parsed[name], natural(name)))


def natural(version: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers by their value, and before words."""
    return [
        (0, int(word), "") if word.isdigit() else (1, 0, word) for word in re.findall(r"\d+|[a-z]+", version.lower())
    ]


def belongs(version: str, series: str) -> bool:
    """Whether a version is ``series`` or one below it, as 6.1.176 is one of 6.1."""
    return version == series or bool(re.match(re.escape(series) + r"(?![0-9])", version))


def in_address(url: str, old: str, new: str) -> str | None:
    """The address of another version; None where ``url`` does not say ``old``."""
    found, count = re.subn(rf"(?<![0-9.]){re.escape(old)}(?!\.?[0-9])", new, url)
    # Folders of whole series: v2.41/, v6.x/.
    for numbers, end in ((2, ""), (1, r"\.x")):
        series = [".".join(version.split(".")[:numbers]) for version in (old, new)]
        found = re.sub(rf"(/v?){re.escape(series[0])}(?={end}/)", rf"\g<1>{series[1]}", found)
    return found if count else None


def of_archive(name: str) -> str | None:
    """The version in an archive's name, such as ``nano-7.2.tar.xz``, ``v1.3.tar.gz`` or ``nano_7.2.orig.tar.xz``."""
    debian = DEBIAN.fullmatch(name)
    if debian:
        return of_debian(debian[2])
    found = re.fullmatch(r"(?:.*?[-_])??[vV]?(\d[\w.+~]*)", ARCHIVE.sub("", name))
    return found[1] if found else None


def of_debian(label: str) -> str:
    """The upstream version in that of a Debian source, without what Debian says of its own changes."""
    return _REPACKED.sub("", label).rpartition("+really")[2]


def of_tags(tags: Iterable[str]) -> dict[str, str]:
    """The tags that look like releases, by version; only those of the most common form."""
    forms: dict[str, dict[str, str]] = {}
    for tag in tags:
        found = re.fullmatch(r"(.*?)(\d+(?:[._-]\d+)*(?:[._-]?[pP]\d+)?)", tag)
        if found and not _UNFINISHED.search(tag):
            version = re.sub(r"\.?p\.?", "p", re.sub("[_-]", ".", found[2]).lower())
            forms.setdefault(found[1], {})[version] = tag
    return max(forms.values(), key=len, default={})


def _parse(name: str) -> Version | None:
    """None where the words would mislead: the b of 2025b is no beta."""
    try:
        version = Version(name)
    except InvalidVersion:
        return None
    return None if version.is_prerelease else version
