"""Fetching: the files of a pinned source, from the first place that has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln import digest
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian, git
from kiln.source.download import Report, download
from kiln.source.pins import Archive, Debian, Git, Source, variants
from kiln.source.unpack import normalise, unpack
from kiln.trees import remove


def fetch(source: Source, *, into: Path, settings: Settings, report: Report | None = None) -> str:
    """Make ``into`` the files of ``source``: unpacked, without version-control metadata, equal to their content pin.

    Tried in order: the downloads folder, the user's mirror, then upstream and the Debian archives as the pins name
    them. Archives stay in the downloads folder. Returns the place that had them. Raises KilnError naming each place
    and why it did not do.
    """
    failures: list[str] = []
    origins = [(origin, variant.content) for variant in variants(source) for origin in variant.origins]
    for places in (_downloaded, _mirrored, _upstream):
        for origin, content in origins:
            with _noted(failures, _name(origin)):
                for place, url in places(origin, settings):
                    with _noted(failures, place):
                        _bring(origin, url, content, into, settings, report)
                        return place
    _empty(into)
    files = " or ".join(origin.file for origin, _ in origins if not isinstance(origin, Git))
    wanted = f"put {files} into a folder and set KILN_MIRROR to it" if files else "give the recipe a mirror"
    raise KilnError(
        "\n".join(["cannot be had from anywhere", *(f"  {failure}" for failure in failures)]),
        where=_name(source),
        hint=f"check the network, or {wanted}",
    )


def _downloaded(origin: Source, settings: Settings) -> Iterator[tuple[str, str]]:
    if not isinstance(origin, Git) and _kept(origin, settings).exists():
        yield f"downloads folder {_kept(origin, settings)}", origin.file


def _mirrored(origin: Source, settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.mirror and not isinstance(origin, Git) and not _kept(origin, settings).exists():
        for name in (origin.file, f"sha256/{origin.sha256}"):
            url = f"{settings.mirror.rstrip('/')}/{name}"
            yield f"mirror {url}", url


def _upstream(origin: Source, settings: Settings) -> Iterator[tuple[str, str]]:
    if isinstance(origin, Git):
        yield _name(origin), origin.url
    elif _kept(origin, settings).exists():  # was brought, and failed for what is in it
        return
    elif isinstance(origin, Archive):
        yield _name(origin), origin.url
    else:
        for base in debian.archives(settings.archive):
            path = debian.pool_path(origin.file, component=origin.component, security="security" in base)
            url = f"{base}/{path}"
            yield f"Debian archive {url}", url


def _name(origin: Source) -> str:
    if isinstance(origin, Debian):
        return f"Debian archive file {origin.file}"
    return f"git {origin.url} {origin.tag}" if isinstance(origin, Git) else f"archive {origin.url}"


def _kept(origin: Archive | Debian, settings: Settings) -> Path:
    return settings.downloads / f"{origin.sha256[:12]}-{origin.file}"


def _bring(
    origin: Source, url: str, content: str | None, into: Path, settings: Settings, report: Report | None
) -> None:
    _empty(into)
    if isinstance(origin, Git):
        git.checkout(url, tag=origin.tag, commit=origin.commit, into=into)
    else:
        file = _kept(origin, settings)
        if not file.exists():
            download(url, file, sha256=origin.sha256, report=report)
        elif (found := digest.of_file(file).hash) != origin.sha256:
            file.unlink()
            raise KilnError(f"sha256 is {found}, expected {origin.sha256}; removed")
        unpack(file, into)
    normalise(into)
    if content and (found := digest.of_tree(into).hash) != content:
        raise KilnError(f"content is sha256:{found}, expected sha256:{content}")


@contextmanager
def _noted(failures: list[str], place: str) -> Iterator[None]:
    try:
        yield
    except KilnError as error:
        failures.append(f"{place}: {error.message}")


def _empty(folder: Path) -> None:
    remove(folder)
    folder.mkdir(parents=True)
