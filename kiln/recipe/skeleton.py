"""The first recipe of a package: pins filled in, the rest guessed from its source or left for a person to say."""

import json
import keyword
import os
import re
import tempfile
import textwrap
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import terms
from kiln.source.git import tags
from kiln.source.index import Index, Listed
from kiln.source.pinning import pin_archive, pin_debian, pin_git
from kiln.source.pins import Debian, Git, Source
from kiln.source.versions import ARCHIVE, DEBIAN, Scheme, in_order, of_archive, of_tags

_WIDTH = 120
_SUMMARY = "what it is, in a few words"

# How a style's recipe begins to differ, and what its first build cannot do without.
_KCONFIG = """\
    defconfig="defconfig",
    flags=lambda board: (f"ARCH={board.arch.kernel}", f"CROSS_COMPILE={board.triple}-"),
"""
_KCONFIG_PHASES = """\
@NAME.install
def install(step: Step, board: Board) -> None:
    step.run(*NAME.command(step, board, "install", f"DESTDIR={step.dest}"))
"""
_MAKE_PHASES = """\
@NAME.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    step.make(f"CC={board.cc}", "LDFLAGS=-static -s")


@NAME.install
def install(step: Step, board: Board) -> None:
    step.make("install", f"DESTDIR={step.dest}", "PREFIX=/usr")
"""
_NO_PHASES = """\
@NAME.build
def build(step: Step, board: Board) -> None:
    raise KilnError("fill in: how it is built, and an install phase", hint="docs/add-a-package.md shows how")
"""


@dataclass(frozen=True, kw_only=True)
class _Style:
    """A style, the file that speaks for it, fields that it needs, and phases that it does not bring."""

    name: str
    because: str
    fields: str = ""
    phases: str = ""
    imports: tuple[str, ...] = ()


_PHASES = ("Board", "Step")
_STYLES = (
    _Style(name="Meson", because="meson.build"),
    _Style(name="Autotools", because="configure"),
    _Style(name="Kconfig", because="Kconfig", fields=_KCONFIG, phases=_KCONFIG_PHASES, imports=_PHASES),
    _Style(name="Kconfig", because="Config.in", fields=_KCONFIG, phases=_KCONFIG_PHASES, imports=_PHASES),
    _Style(name="Package", because="Makefile", phases=_MAKE_PHASES, imports=_PHASES),
    _Style(name="Package", because="GNUmakefile", phases=_MAKE_PHASES, imports=_PHASES),
)
_NO_STYLE = _Style(name="Package", because="", phases=_NO_PHASES, imports=(*_PHASES, "KilnError"))


def create(name: str, address: str, version: str | None, *, settings: Settings, scratch: Path) -> list[str]:
    """Write ``packages/NAME/recipe.py`` for what lies at ``address``; returns what to tell the user.

    ``address`` is a URL or path of a tar archive, that of a git repository with ``#TAG`` (the newest, if none is
    named), or the name of a file of the Debian archive. ``scratch`` is an empty folder to work in. Raises KilnError,
    and leaves nothing, where it cannot.
    """
    folder = settings.root / "packages" / name
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name):
        raise KilnError(f"{name!r} is no package name", hint="use a-z, 0-9, '+', '.' and '-'")
    if folder.exists():
        raise KilnError("is there already, and is left as it is", where=os.fspath(folder))
    tree = scratch / "source"
    pin, version, trust = _pin(address, version, tree, settings)
    style = next((style for style in _STYLES if (tree / style.because).is_file()), _NO_STYLE)
    licenses = terms.files(tree)
    license = terms.expression(tree, licenses)
    _publish(folder, _text(name, version, pin, style, license or _ask(tree, licenses), licenses))
    place = folder.relative_to(settings.root) / "recipe.py"
    why = f"it has {style.because}" if style.because else "there is nothing in it that a style knows"
    lines = [f"wrote    {place}: {style.name}, because {why}", f"pinned   {trust}"]
    if license:
        lines.append(f"license  {license}, as {licenses[0]} says: have a look whether all of it is")
    lines += [f"left     {todo}" for todo in _left(tree, pin, style, license, licenses)]
    return [*lines, f"then     add {json.dumps(name)} to the packages of a board in configs/, and: doit {name}"]


def _pin(address: str, version: str | None, tree: Path, settings: Settings) -> tuple[Source, str, str]:
    """The pin of what lies at an address, its version, and why one may believe in it. Makes ``tree`` its files."""
    place, _, tag = address.partition("#")
    name = place.partition("?")[0].rstrip("/").rpartition("/")[2]
    local = Path(place).expanduser()
    if DEBIAN.fullmatch(place) and not local.exists():
        version = _known(version or of_archive(name), address)
        pin, trust = _debian(place, tree, settings)
        return pin, version, trust
    if ":" not in place:
        place = local.absolute().as_uri()
    if ARCHIVE.search(name):
        version = _known(version or of_archive(name), address)
        trust = "as it came just now: compare the sha256 with what its makers publish"
        return pin_archive(place, into=tree, settings=settings), version, trust
    return _git(place, tag, version, tree)


def _debian(file: str, tree: Path, settings: Settings) -> tuple[Debian, str]:
    index = Index(settings)
    known: list[Listed] = []
    with suppress(KilnError):  # the index is not needed to download it, and its failures are told
        known = index.files(file.partition("_")[0])
    listed = next((item for item in known if item.file == file), None)
    pin = pin_debian(file, listed.sha256 if listed else None, into=tree, settings=settings)
    if listed is None:
        why = f" ({'; '.join(index.failures)})" if index.failures else ""
        return pin, f"as it came just now: no index of the archive that could be read lists it{why}"
    if not listed.signed:
        return pin, "as the archive's index lists it, whose signature could not be checked (gpgv and Debian's keys do)"
    return pin, "as the archive's index lists it, which Debian has signed"


def _git(url: str, tag: str, version: str | None, tree: Path) -> tuple[Git, str, str]:
    known = tags(url)
    by_version = of_tags(known)
    if not tag and version:
        found = [name for name in known if (scheme := Scheme.of(name, version)) and scheme.version(name) == version]
        tag = min(found, key=len, default="")
    elif not tag and by_version:
        tag = by_version[in_order(by_version)[-1]]
    if tag not in known:
        what = f"there is no tag {tag!r}" if tag else "no tag looks like a release"
        raise KilnError(what, where=url, hint=f"name one of its tags: {url}#TAG")
    own = {name: label for label, name in of_tags([tag]).items()}
    version = _known(version or own.get(tag), f"{url}#{tag}")
    pin = pin_git(url, tag, known[tag], into=tree)
    return pin, version, f"tag {tag} is commit {pin.commit} just now"


def _known(version: str | None, address: str) -> str:
    if version is None:
        raise KilnError("its version cannot be told", where=address, hint="say it: doit new-package NAME URL VERSION")
    return version


def _ask(tree: Path, licenses: Collection[str]) -> str:
    """In place of a licence: what to find out. No recipe loads with it."""
    seen, known = ", ".join(licenses) or "its files", terms.texts(tree, list(licenses))
    text = f"fill in: the SPDX expression of {seen}" + (f" (texts of {', '.join(known)})" if known else "")
    return textwrap.shorten(text, _WIDTH - len('    license="",'))


def _left(tree: Path, pin: Source, style: _Style, license: str | None, licenses: Collection[str]) -> Iterator[str]:
    yield "summary: say what it is"
    if not isinstance(pin, Debian) and pin.url.startswith("file:"):
        yield "source: it is had on this machine alone; give it a URL, or a mirror"
    if not license:
        yield "license: say which; until then no recipe loads"
    if not licenses:
        yield "license_files: no file of its top folder looks like a licence"
    if style.phases:
        yield "phases: they are a first guess" if style is not _NO_STYLE else "phases: say how it is built"
    if style is _NO_STYLE and any((tree / name).is_file() for name in ("configure.ac", "configure.in", "autogen.sh")):
        yield "its configure must be made first: a release archive, rather than a git tag, brings one"


def _text(name: str, version: str, pin: Source, style: _Style, license: str, licenses: tuple[str, ...]) -> str:
    """The recipe, as ruff would format it."""
    variable = re.sub(r"\W", "_", name)
    if keyword.iskeyword(variable) or not variable.isidentifier():
        variable = f"package_{variable}"
    given = {name: value for name, value in vars(pin).items() if value and name not in ("url", "file", "component")}
    first = pin.file if isinstance(pin, Debian) else pin.url
    source = _call(type(pin).__name__, first, given)
    names = ", ".join(sorted({style.name, type(pin).__name__, *style.imports}))
    lines = [f"from kiln import {names}", "", f"{variable} = {style.name}("]
    lines += [f"    {key}={json.dumps(value)}," for key, value in (("name", name), ("version", version))]
    lines += [f"    summary={json.dumps(_SUMMARY)},", f"    source={source},", f"    license={json.dumps(license)},"]
    if licenses:
        lines += _tuple("license_files", licenses)
    text = "\n".join(lines) + f"\n{style.fields})\n"
    return text + (f"\n\n{style.phases.replace('NAME', variable)}" if style.phases else "")


def _call(name: str, first: str, keywords: Mapping[str, str]) -> str:
    """A call as a field's value: on one line where that has room for it, else with a line for each argument."""
    words = [json.dumps(first), *(f"{key}={json.dumps(value)}" for key, value in keywords.items())]
    flat = f"{name}({', '.join(words)})"
    if len(f"    source={flat},") <= _WIDTH:
        return flat
    return "\n".join([f"{name}(", *(f"        {word}," for word in words), "    )"])


def _tuple(field: str, values: Collection[str]) -> list[str]:
    words = [json.dumps(value, ensure_ascii=False) for value in values]
    flat = f"    {field}=({', '.join(words)}{',' * (len(words) == 1)}),"
    return [flat] if len(flat) <= _WIDTH else [f"    {field}=(", *(f"        {word}," for word in words), "    ),"]


def _publish(folder: Path, text: str) -> None:
    """Make the package's folder with its recipe in it, at once."""
    # Two levels deep, nobody takes it for a package before it is one.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        made = Path(scratch, folder.name)
        made.mkdir()
        (made / "recipe.py").write_text(text)
        try:
            made.rename(folder)
        except OSError as error:
            raise KilnError(error.strerror or str(error), where=os.fspath(folder)) from error
