"""Fetching: the files of a pinned source, from the first place that has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiln import digest, store
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian, git
from kiln.source.download import Report, download
from kiln.source.pins import Archive, Debian, Git, Origin, Source, variants
from kiln.source.unpack import normalise, unpack


@dataclass(frozen=True)
class Fetched:
    """``content`` is the digest of the files, ``variant`` the number of theirs in ``pins.variants``."""

    content: str
    origin: str
    variant: int


def fetch(source: Source, *, into: Path, settings: Settings, report: Report | None = None) -> Fetched:
    """Make ``into`` the files of ``source``: unpacked, without version-control metadata, equal to their content pin.

    Tried in order: the downloads folder, the user's mirror, then upstream and the Debian archives as the pins name
    them. Archives stay in the downloads folder. Raises KilnError naming each place and why it did not do.
    """
    failures: list[str] = []
    for places in (_downloaded, _mirrored, _upstream):
        for number, variant in enumerate(variants(source)):
            for origin in variant.origins:
                with _noted(failures, _name(origin)):
                    for place, url in places(origin, settings):
                        _empty(into)
                        with _noted(failures, place):
                            _bring(origin, url, into, settings, report)
                            content = _checked(into, variant.content)
                            return Fetched(content, place, number)
    _empty(into)
    origins = [origin for variant in variants(source) for origin in variant.origins]
    files = " or ".join(origin.file for origin in origins if not isinstance(origin, Git))
    wanted = f"put {files} into a folder and set KILN_MIRROR to it" if files else "give the recipe a mirror"
    raise KilnError(
        "\n".join(["cannot be had from anywhere", *(f"  {failure}" for failure in failures)]),
        where=_name(source),
        hint=f"check the network, or {wanted}",
    )


def _downloaded(origin: Origin, settings: Settings) -> Iterator[tuple[str, str]]:
    if not isinstance(origin, Git) and _kept(origin, settings).exists():
        yield f"downloads folder {_kept(origin, settings)}", origin.file


def _mirrored(origin: Origin, settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.mirror and _lacking(origin, settings) and not isinstance(origin, Git):
        for name in (origin.file, f"sha256/{origin.sha256}"):
            url = f"{settings.mirror.rstrip('/')}/{name}"
            yield f"mirror {url}", url


def _upstream(origin: Origin, settings: Settings) -> Iterator[tuple[str, str]]:
    if isinstance(origin, Debian):
        if _lacking(origin, settings):
            for base in debian.archives(settings.archive):
                url = f"{base}/{debian.pool_path(origin.file, security='security' in base)}"
                yield f"Debian archive {url}", url
    elif _lacking(origin, settings):
        yield _name(origin), origin.url


def _name(origin: Origin) -> str:
    match origin:
        case Git():
            return f"git {origin.url} {origin.tag}"
        case Archive():
            return f"archive {origin.url}"
        case Debian():
            return f"Debian archive file {origin.file}"


def _kept(origin: Archive | Debian, settings: Settings) -> Path:
    return settings.downloads / f"{origin.sha256[:12]}-{origin.file}"


def _lacking(origin: Origin, settings: Settings) -> bool:
    """Whether a network can help: an archive that is in the downloads folder by now has failed for what is in it."""
    return isinstance(origin, Git) or not _kept(origin, settings).exists()


def _bring(origin: Origin, url: str, into: Path, settings: Settings, report: Report | None) -> None:
    if isinstance(origin, Git):
        git.checkout(url, tag=origin.tag, commit=origin.commit, into=into)
        return
    file = _kept(origin, settings)
    if not file.exists():
        download(url, file, sha256=origin.sha256, report=report)
    elif (found := digest.of_file(file).hash) != origin.sha256:
        file.unlink()
        raise KilnError(f"sha256 is {found}, expected {origin.sha256}; removed")
    unpack(file, into)


def _checked(root: Path, expected: str | None) -> str:
    normalise(root)
    content = digest.of_tree(root).hash
    if expected not in (None, content):
        raise KilnError(f"content is sha256:{content}, expected sha256:{expected}")
    return content


@contextmanager
def _noted(failures: list[str], place: str) -> Iterator[None]:
    try:
        yield
    except KilnError as error:
        failures.append(f"{place}: {error.message}")


def _empty(folder: Path) -> None:
    store.remove(folder)
    folder.mkdir(parents=True)
