"""What something is made of: parts of parts, whose sizes add up to the byte."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Part:
    """``size`` is in bytes and the sum of those of ``parts``, where there are any.

    ``about`` says that the size is a share of bytes that are compressed together.
    """

    name: str
    size: int
    parts: tuple["Part", ...] = ()
    about: bool = False

    def __post_init__(self) -> None:
        if self.size < 0 or (self.parts and self.size != sum(part.size for part in self.parts)):
            raise ValueError(f"the parts of {self.name} do not add up to {self.size} bytes")

    @staticmethod
    def of(name: str, size: int, parts: Iterable["Part"], *, rest: str) -> "Part":
        """A part of that size; what ``parts`` leave of it is called ``rest``, and parts of nothing are left out.

        Raises ValueError where they are more than it.
        """
        found = sorted((part for part in parts if part.size), key=lambda part: (-part.size, part.name))
        left = size - sum(part.size for part in found)
        if found and left:
            found.append(Part(name=rest, size=left))
        return Part(name=name, size=size, parts=tuple(found))


def total(name: str, parts: Iterable[Part]) -> Part:
    """The sum of parts, the biggest first."""
    found = list(parts)
    return Part.of(name, sum(part.size for part in found), found, rest="")


def leaves(sizes: Mapping[str, int], *, about: bool = False) -> list[Part]:
    return [Part(name=name, size=size, about=about) for name, size in sizes.items()]


def groups(rows: Iterable[tuple[str, str, int]], *, about: bool = False) -> list[Part]:
    """Parts of parts, from the names of both and a size; the same name twice is added up."""
    found: dict[str, dict[str, int]] = {}
    for group, name, size in rows:
        sizes = found.setdefault(group, {})
        sizes[name] = sizes.get(name, 0) + size
    return [replace(total(group, leaves(sizes, about=about)), about=about) for group, sizes in found.items()]


def folders(sizes: Mapping[str, int], *, about: bool = False) -> list[Part]:
    """Parts as deep as the paths are that have the sizes."""
    inside: dict[str, dict[str, int]] = {}
    for path, size in sizes.items():
        folder, _, rest = path.partition("/")
        inside.setdefault(folder, {})[rest] = size
    found = []
    for name, below in inside.items():
        parts = [] if "" in below else folders(below, about=about)
        size = sum(below.values())
        found.append(replace(Part.of(name, size, parts, rest="") if parts else Part(name=name, size=size), about=about))
    return found


def shares(size: int, weights: Mapping[str, int]) -> dict[str, int]:
    """``size`` in whole bytes, shared out in proportion."""
    whole, before, found = sum(weights.values()), 0, {}
    for name, weight in weights.items():
        found[name] = size * (before + weight) // whole - size * before // whole
        before += weight
    return found


@dataclass(frozen=True, kw_only=True)
class Change:
    """A part before and after, in bytes; None where there was or is none."""

    name: str
    before: int | None
    after: int | None
    about: bool
    parts: tuple["Change", ...]

    @property
    def size(self) -> int:
        return self.after or 0

    @property
    def growth(self) -> int:
        return self.size - (self.before or 0)


def compare(before: Part | None, after: Part | None) -> Change:
    """How a part became another; their parts are matched by name, where both tell of theirs."""
    some = after or before
    assert some
    old, new = ({part.name: part for part in side.parts} if side else {} for side in (before, after))
    told = not (before and after) or bool(old and new)
    return Change(
        name=some.name,
        before=before.size if before else None,
        after=after.size if after else None,
        about=some.about,
        parts=tuple(compare(old.get(name), new.get(name)) for name in {**new, **old} if told),
    )
