"""Tracking: which newer version of a package there is, and its pins written into the recipe."""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kiln.errors import KilnError
from kiln.recipe.edit import Editor
from kiln.recipe.load import Recipe
from kiln.recipe.package import Package
from kiln.settings import Settings
from kiln.source.git import tags
from kiln.source.index import Index
from kiln.source.pinning import pin_archive, pin_debian, pin_git
from kiln.source.pins import Archive, Debian, Git, Source
from kiln.source.versions import DEBIAN, Scheme, belongs, in_address, in_order, of_debian

_GIT, _DEBIAN = "git", "Debian"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the places of a package have: for each place the label (a tag, a file) of each version.

    ``notes`` says which place did not answer, or could not be understood.
    """

    package: Package
    places: Mapping[str, Mapping[str, str]]
    notes: Sequence[str] = field(default=())

    def newest(self, *places: str) -> str | None:
        """The newest version that one of these places has, if it is newer than the package's."""
        own = self.package.version
        labels = {self.package.source.tag} if isinstance(self.package.source, Git) else set()
        known = {
            version
            for place in places or self.places
            for version, label in self.places.get(place, {}).items()
            if label not in labels
        }
        order = in_order({*known, own})
        newest = order[-1] if order else own
        return None if newest == own or own not in order else newest

    def having(self, version: str) -> str:
        return ", ".join(place for place, versions in self.places.items() if version in versions)


def look(package: Package, index: Index, series: str = "") -> Found:
    """What git and the Debian archive have of a package, of ``series`` such as 6.1 alone where that is given."""
    source = package.source
    assert isinstance(source, Git | Archive | Debian)
    places: dict[str, dict[str, str]] = {}
    notes: list[str] = []

    def ask(place: str, label: str, labels: Callable[[], Iterable[tuple[str, str]]]) -> None:
        scheme = Scheme.of(label, package.version)
        if not scheme:
            notes.append(f"{place}: how {label} is made of version {package.version} is not to be seen")
            return
        try:
            versions = {version: name for name, text in labels() if (version := scheme.version(text))}
        except KilnError as error:
            notes.append(f"{place}: {error.message}")
            return
        versions = {version: name for version, name in versions.items() if not series or belongs(version, series)}
        places[place] = places.get(place, {}) | versions

    if isinstance(source, Git):
        ask(_GIT, source.tag, lambda: ((tag, tag) for tag in tags(source.url)))
    for mirror in _debians(source):
        match = DEBIAN.fullmatch(mirror.file)
        if match:
            listed = partial(_listed, index, match[1])
            ask(_DEBIAN, of_debian(match[2]), listed)
    return Found(package=package, places=places, notes=(*notes, *(index.failures if _debians(source) else ())))


def report(recipes: Mapping[str, Recipe], settings: Settings) -> Iterator[str]:
    """A line for each package that has a source of its own, and below them what did not answer."""
    index = Index(settings)
    rows, notes = [("package", "version", "newest", "from")], []
    for name, recipe in recipes.items():
        if isinstance(recipe.package.source, Git | Archive | Debian):
            found = look(recipe.package, index)
            newest = found.newest()
            where = found.having(newest) if newest else ", ".join(place for place, has in found.places.items() if has)
            rows.append((name, recipe.package.version, newest or ("-" if where else "?"), where))
            notes += [note if note in index.failures else f"{name}: {note}" for note in found.notes]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join([*(word.ljust(width) for word, width in zip(row, widths, strict=False)), row[3]])
    yield from (f"  {note}" for note in dict.fromkeys(notes))


def update(
    name: str, recipes: Mapping[str, Recipe], settings: Settings, scratch: Path, *, series: str = "", dry: bool = False
) -> Iterator[str]:
    """Write the pins of the newest version into the recipe, or with ``dry`` only say so; yields what to tell the user.

    A mirror that does not have that version is dropped from the recipe; a package that shares the source goes along.
    ``scratch`` is an empty folder to work in. Raises KilnError, and writes nothing, where the source itself cannot be
    had, or the Debian archive cannot be asked for a mirror.
    """
    package = recipes[name].package
    source = package.source
    if not isinstance(source, Git | Archive | Debian):
        hint = f"doit track {source}" if source else None
        raise KilnError("has no source of its own", where=name, hint=hint)
    index = Index(settings)
    found = look(package, index, series)
    yield from (f"  {note}" for note in found.notes)
    anywhere = found.newest()
    newest = found.newest(_GIT) if isinstance(source, Git) else anywhere
    if anywhere and anywhere != newest:
        yield f"  {found.having(anywhere)} has {anywhere}, but no tag of it is known from {_where(source)}"
    if not newest:
        if anywhere or not found.places:
            raise KilnError("no newer version can be pinned", where=name, hint="the recipe is left as it is")
        yield f"{name} {package.version}: nothing newer"
        return
    yield f"{name} {package.version} -> {newest} ({found.having(newest)})"
    if dry:
        return
    make = partial(_pin, old=package.version, version=newest, found=found, index=index, settings=settings)
    if _debians(source) and _DEBIAN not in found.places:
        hint = "the recipe is left as it is; check the network, or KILN_DEBIAN"
        raise KilnError("the Debian archive, which is one of its places, cannot be asked", where=name, hint=hint)
    editor = Editor(recipes[name].folder / "recipe.py", name)
    yield from _edit(editor, source, make, scratch)
    editors = (*_sharers(package, recipes), editor)
    for one in editors:
        one.set(one.package, "version", newest)
    for one in editors:
        one.save()
        yield f"wrote    {one.file.relative_to(settings.root)}: {newest}"


def _edit(editor: Editor, source: Source, make: Callable[..., Source], scratch: Path) -> Iterator[str]:
    """Let ``make`` pin the source and its mirrors anew, and write the pins into the recipe."""
    written, mirrors = editor.source, editor.mirrors
    pin = make(source, into=scratch / "source")
    _fill(editor, written, source, pin)
    dropped = []
    for number, (mirror, call) in enumerate(zip(_mirrors(source), mirrors, strict=True)):
        try:
            other = make(mirror, into=scratch / f"mirror{number}")
        except KilnError as error:
            dropped.append(call)
            yield f"  dropped the mirror {_where(mirror)}: {error.message}"
            continue
        _fill(editor, call, mirror, other, content=pin.content)
        if other.content != pin.content:
            yield f"  {_where(other)} holds other files than {_where(pin)}, and is pinned for itself"
    if dropped:
        editor.drop(dropped)


def _sharers(package: Package, recipes: Mapping[str, Recipe]) -> list[Editor]:
    """The recipes of packages that are made of the same source in the same version."""
    return [
        Editor(other.folder / "recipe.py", other.package.name)
        for other in recipes.values()
        if other.package.source == package.name and other.package.version == package.version
    ]


def _pin(pin: Source, *, old: str, version: str, found: Found, index: Index, into: Path, settings: Settings) -> Source:
    """The pin of another version of the same place."""
    if isinstance(pin, Git):
        tag = found.places[_GIT][version]
        return pin_git(pin.url, tag, tags(pin.url)[tag], into=into)
    if isinstance(pin, Debian):
        file = found.places[_DEBIAN].get(version)
        if not file:
            raise KilnError(f"the Debian archive has no {version}")
        listed = {item.file: item.sha256 for item in index.files(file.partition("_")[0])}
        return pin_debian(file, listed[file], into=into, settings=settings)
    url = in_address(pin.url, old, version)
    if url is None:
        raise KilnError(f"{pin.url} does not say {old}, so where {version} is is not known")
    return pin_archive(url, into=into, settings=settings)


def _fill(editor: Editor, call: ast.Call, old: Source, new: Source, content: str | None = None) -> None:
    """Write what a pin has; ``content`` is that of the files that it mirrors."""
    for name, value in vars(new).items():
        given = getattr(old, name)
        if name == "mirrors" or value == given:
            continue
        if given is not None:
            editor.set(call, name, value)
        elif content and value != content:
            editor.add(call, name, value, after="sha256")


def _mirrors(source: Source) -> Sequence[Archive | Debian]:
    return () if isinstance(source, Debian) else source.mirrors


def _debians(source: Source) -> list[Debian]:
    return [pin for pin in (source, *_mirrors(source)) if isinstance(pin, Debian)]


def _where(pin: Source) -> str:
    return pin.file if isinstance(pin, Debian) else pin.url


def _listed(index: Index, package: str) -> Iterator[tuple[str, str]]:
    """The files of a Debian source package, and the upstream version in each name."""
    for listed in index.files(package):
        match = DEBIAN.fullmatch(listed.file)
        if match:
            yield listed.file, of_debian(match[2])
