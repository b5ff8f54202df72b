"""Downloads: a file comes whole, with the digest that was asked for, or not at all."""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kiln import digest
from kiln.errors import KilnError

if TYPE_CHECKING:  # costs 0.15 s of every start
    import requests

Report = Callable[[int, int | None], None]

# Seconds to connect, and between two pieces of the body.
TIMEOUTS = (10.0, 30.0)

# How often a transfer that broke off is taken up again before its server is given up.
_ATTEMPTS = 5


def download(url: str, path: Path, *, sha256: str, report: Report | None = None) -> None:
    """Bring the file at ``url`` (HTTP, ``file:`` or a plain path) to ``path``.

    What is there of it lies beside ``path`` as ``.part`` and is taken up again, by a later call too. ``report`` is told
    the bytes that are there and, where known, those that there will be. Raises KilnError saying why it could not come.
    """
    part = path.with_name(f"{path.name}.{sha256[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part):
            if path.exists():  # somebody else brought it while we waited
                return
            parts = urlsplit(url)
            if parts.scheme in ("", "file"):
                shutil.copyfile(Path(unquote(parts.path) if parts.scheme else url).expanduser(), part)
            else:
                transfer(url, part, report)
            part.with_suffix(".from").unlink(missing_ok=True)
            found = digest.of_file(part).hash
            if found != sha256:
                part.unlink()
                raise KilnError(f"sha256 is {found}, expected {sha256}", where=url)
            part.rename(path)
    except (OSError, ValueError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "set KILN_DOWNLOADS to a folder on a disk with more room" if full else None
        raise KilnError(getattr(error, "strerror", None) or str(error), where=url, hint=hint) from error


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold ``part`` against every other thread and process that brings the same file."""
    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if not os.path.samestat(part.stat(), os.fstat(file.fileno())):
                    continue
            except FileNotFoundError:  # what we waited for was finished or thrown away, and is no part any more
                continue
            try:
                yield
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
            return


class _Broken(Exception):
    """A transfer broke off; it can be taken up again."""


def transfer(url: str, part: Path, report: Report | None) -> None:
    """Bring what is at an HTTP address to ``part``, whatever its digest. Raises KilnError saying why it cannot."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retry = Retry(
        connect=1,
        read=1,
        status=3,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    with requests.Session() as session:
        for prefix in ("http://", "https://"):
            session.mount(prefix, HTTPAdapter(max_retries=retry))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _take(session, url, part, report)
                break
            except _Broken as error:
                if attempt == _ATTEMPTS:
                    raise KilnError(f"broke off {_ATTEMPTS} times: {error}", where=url) from error
            except requests.RequestException as error:
                raise KilnError(_reason(error), where=url) from error


def _take(session: "requests.Session", url: str, part: Path, report: Report | None) -> None:
    """Make ``part`` whole, from where it ends if the server still has the file that it was begun from."""
    from urllib3.exceptions import HTTPError

    # What ``part`` was begun from: the URL, and the server's name for that state of it, where it has a sure one.
    note = part.with_suffix(".from")
    begun, _, validator = note.read_text().partition("\n") if note.exists() and part.exists() else ("", "", "")
    done = part.stat().st_size if validator and begun == url else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as answer:
        if answer.status_code == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            size = span[2] if span and int(span[1]) == done else None
        elif answer.status_code == 200:
            done, size = 0, answer.headers.get("Content-Length", "*")
            part.write_bytes(b"")
            tag = answer.headers.get("ETag", "")
            validator = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
            note.write_text(f"{url}\n{validator}")
        elif answer.status_code == 416:
            size = None
        else:
            raise KilnError(f"the server answered {answer.status_code} {answer.reason}", where=url)
        if size is None:
            part.unlink(missing_ok=True)
            raise _Broken("the server sent another part of the file than the one asked for")
        total = int(size) if size.isdigit() else None
        with part.open("ab") as file:
            try:
                while chunk := answer.raw.read1(1 << 20):
                    file.write(chunk)
                    done += len(chunk)
                    if report:
                        report(done, total)
            except HTTPError as error:
                raise _Broken(f"{done} bytes came, then: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The cause at the bottom of what requests and urllib3 wrap round it."""
    cause: Any = error
    while isinstance(inner := getattr(cause, "reason", None) or (cause.args or [None])[0], Exception):
        cause = inner
    text = str(cause.args[0] if cause.args else cause)
    return text.partition("): ")[2] or text
