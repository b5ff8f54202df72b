"""Making pins: what a place gives now is what the pin will ask for."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from kiln import digest
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian, git
from kiln.source.download import download, transfer
from kiln.source.fetch import fetch
from kiln.source.pins import Archive, Debian, Git
from kiln.source.unpack import normalise


def pin_git(url: str, tag: str, commit: str, *, into: Path) -> Git:
    """Make ``into`` the files of a tag, and return the pin of them."""
    git.checkout(url, tag=tag, commit=commit, into=into)
    normalise(into)
    return Git(url, tag=tag, commit=commit, content=_content(into))


def pin_archive(url: str, *, into: Path, settings: Settings) -> Archive:
    """Download an archive into the downloads folder, unpack it to ``into``, and return the pin of it."""
    sha256 = _keep([url], Archive(url, sha256="0" * 64).file, into.parent, settings)
    fetch(Archive(url, sha256=sha256), into=into, settings=settings)
    return Archive(url, sha256=sha256, content=_content(into))


def pin_debian(file: str, sha256: str | None, *, into: Path, settings: Settings) -> Debian:
    """The same for a file of the Debian archive; ``sha256`` is the digest that its index has, where that is known."""
    if sha256 is None:
        bases = debian.archives(settings.archive)
        urls = [f"{base}/{debian.pool_path(file, security='security' in base)}" for base in bases]
        sha256 = _keep(urls, file, into.parent, settings)
    pin = Debian(file, sha256=sha256)
    fetch(pin, into=into, settings=settings)
    return replace(pin, content=_content(into))


def bring(url: str, path: Path) -> None:
    """Download what nobody knows the digest of; a file, ``file:`` or HTTP."""
    parts = urlsplit(url)
    try:
        if parts.scheme in ("", "file"):
            shutil.copyfile(unquote(parts.path), path)
            return
        with tqdm(unit="B", unit_scale=True, leave=False, disable=None, desc=path.name) as bar:

            def report(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)

            transfer(url, path, report)
    except (OSError, ValueError) as error:
        raise KilnError(getattr(error, "strerror", None) or str(error), where=url) from error


def _keep(urls: list[str], name: str, scratch: Path, settings: Settings) -> str:
    """Download a file from the first place that has it to where fetching looks for it, and return its SHA-256."""
    failures = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder, name)
        for url in urls:
            try:
                bring(url, path)
            except KilnError as error:
                failures.append(f"  {url}: {error.message}")
                continue
            found = digest.of_file(path).hash
            download(os.fspath(path), settings.downloads / f"{found[:12]}-{name}", sha256=found)
            return found
    raise KilnError("\n".join([f"{name} cannot be had", *failures]), hint="check the address, and the network")


def _content(tree: Path) -> str:
    return f"sha256:{digest.of_tree(tree).hash}"
