"""The Debian archive: where this machine finds one, and where it keeps a file."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kiln import process
from kiln.errors import KilnError

_SUITE = re.compile(
    r"(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable)([-/](security|updates|proposed-updates))?/?"
)
_LINE = re.compile(r"(?m)^\s*deb(?:-src)?\s+(?:\[.*?\]\s+)?(\S+)\s+(\S+)[ \t]+([^#\n]*)")


@cache
def archives(setting: str | None, *, apt: Path = Path("/etc/apt")) -> tuple[str, ...]:
    """Base URLs of Debian archives, without a slash at the end, the main one before a security one.

    They come from ``setting`` (separated by blanks) or else from the machine's apt settings in the folder ``apt``.
    Raises KilnError where both name none.
    """
    known = [] if setting else list(_known(apt)) or list(_declared(apt))
    found = setting.split() if setting else [url for _, url in sorted(known, key=lambda it: "security" in it[0])]
    if not found:
        raise KilnError(
            "no Debian archive is known: neither KILN_DEBIAN nor apt's settings name one",
            hint="set KILN_DEBIAN to the base URL of a Debian archive, the one whose folders are dists and pool",
        )
    return tuple(dict.fromkeys(url.rstrip("/") for url in found))


def pool_path(file: str, *, component: str = "main", security: bool = False) -> str:
    """Where an archive keeps a file of a source: ``pool/main/m/musl/musl_1.2.5.orig.tar.gz``."""
    name = file.partition("_")[0]
    letters = name[:4] if name.startswith("lib") else name[:1]
    pool = "pool/updates" if security else "pool"
    return f"{pool}/{component}/{letters}/{name}/{file}"


def _known(apt: Path) -> Iterator[tuple[str, str]]:
    """Code name and URL of the Debian archives whose indexes apt has; none where there is no apt."""
    words = ["-o", f"Dir::Etc::sourcelist={apt}/sources.list", "-o", f"Dir::Etc::sourceparts={apt}/sources.list.d"]
    try:
        lines = process.run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", *words])
    except KilnError:
        return
    for line in lines.decode().splitlines():
        origin, suite, url = line.split("|", 2)
        if origin == "Debian":
            yield suite, url


def _declared(apt: Path) -> Iterator[tuple[str, str]]:
    """Suite and URL of the entries that apt would read and that carry one of Debian's own suites."""
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not os.access(path, os.R_OK):
            continue
        text = re.sub(r"(?m)^\s*#.*\n?", "", path.read_text(errors="replace"))
        for urls, suites, components in _LINE.findall(text) if path.suffix == ".list" else _stanzas(text):
            for suite in suites.split():
                if _SUITE.fullmatch(suite) and "main" in components.split():
                    yield from ((suite, url) for url in urls.split())


def _stanzas(text: str) -> Iterator[tuple[str, str, str]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = {name.lower(): value for name, value in re.findall(r"(?m)^(\S+?):((?:.*\n?)(?:[ \t].*\n?)*)", stanza)}
        if fields.get("enabled", "").strip().lower() not in ("no", "false", "off", "0"):
            yield fields.get("uris", ""), fields.get("suites", ""), fields.get("components", "")
