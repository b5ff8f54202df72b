"""The Debian archive's index of sources: which files it has, and their digests."""

import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian
from kiln.source.download import download
from kiln.source.pinning import bring

# The newest versions, and those that stay.
_SUITES = ("unstable", "stable", "oldstable")
_SECURITY = ("stable-security", "oldstable-security")
_KEYS = Path("/usr/share/keyrings")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A file of the archive. ``signed`` says whether Debian's signature on the index was checked."""

    file: str
    sha256: str
    signed: bool


class Index:
    """The sources that the machine's Debian archives have. ``failures`` says which suites could not be read."""

    def __init__(self, settings: Settings) -> None:
        self.failures: list[str] = []
        self._settings = settings
        self._texts: list[tuple[str, bool]] | None = None

    def files(self, package: str) -> list[Listed]:
        """The ``.orig`` archives of a Debian source package. Raises KilnError where no suite can be read."""
        if self._texts is None:
            self._texts = list(self._read())
        if not self._texts:
            raise KilnError("; ".join(self.failures))
        found: dict[str, Listed] = {}
        pattern = rf"(?m)^ ([0-9a-f]{{64}}) \d+ ({re.escape(package)}_\S+\.orig\.tar\.[a-z0-9]+)$"
        for text, signed in self._texts:
            for sha256, file in re.findall(pattern, text):
                found.setdefault(file, Listed(file=file, sha256=sha256, signed=signed))
        return list(found.values())

    def _read(self) -> Iterator[tuple[str, bool]]:
        try:
            bases = debian.archives(self._settings.archive)
        except KilnError as error:
            self.failures.append(error.message)
            return
        for base in bases:
            for suite in _SECURITY if "security" in base else _SUITES:
                try:
                    yield self._suite(f"{base}/dists/{suite}", suite)
                except (KilnError, OSError, lzma.LZMAError) as error:
                    self.failures.append(f"Debian {suite}: {getattr(error, 'message', error)}")

    def _suite(self, url: str, suite: str) -> tuple[str, bool]:
        with tempfile.TemporaryDirectory() as folder:
            release = Path(folder, "InRelease")
            bring(f"{url}/InRelease", release)
            text, signed = _checked(release)
        listed = re.search(r"(?m)^ ([0-9a-f]{64}) +\d+ main/source/Sources\.xz$", text)
        if not listed:
            raise KilnError("its InRelease names no main/source/Sources.xz", where=url)
        name = f"Sources-{suite}.xz"
        kept = self._settings.downloads / "debian" / f"{listed[1][:12]}-{name}"
        if not kept.exists():
            download(f"{url}/main/source/Sources.xz", kept, sha256=listed[1])
            for old in kept.parent.glob(f"*-{name}"):
                if old != kept:
                    old.unlink(missing_ok=True)
        return lzma.decompress(kept.read_bytes()).decode(errors="replace"), signed


def _checked(release: Path) -> tuple[str, bool]:
    """The text of a Release file, and whether a key of this machine's keyring of Debian has signed it.

    Raises KilnError where its text is not the one that was signed.
    """
    keys = sorted(_KEYS.glob("debian-archive-keyring.*"))
    if shutil.which("gpgv") and keys:
        words = ["gpgv", "--quiet", "--keyring", os.fspath(keys[0]), "--output", "-", os.fspath(release)]
        try:
            return process.run(words, env=dict(os.environ) | {"LC_ALL": "C"}).decode(), True
        except process.CommandFailed as error:  # a key that this machine does not know proves nothing either way
            if "BAD signature" in error.message:
                raise KilnError("its InRelease is not what Debian has signed") from error
    return release.read_text(errors="replace"), False
