"""What the doctor finds on a machine."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.report.doctor import Finding, examine
from kiln.settings import Settings
from kiln.store import Store
from kiln.tools import Tools


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """A server that looks like an archive."""
    (tmp_path / "archive/dists/bookworm").mkdir(parents=True)
    (tmp_path / "archive/dists/bookworm/Release").touch()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "archive"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def findings(settings: Settings) -> list[Finding]:
    return list(examine(settings, Tools(settings, Store(settings.store)), "x86_64"))


@pytest.mark.parametrize(
    ("says", "level", "words"),
    [
        ("echo 'Available netdev backend types:'; echo user; echo tap", "ok", "qemu-system-x86_64"),
        ("echo 'Available netdev backend types:'; echo tap", "problem", "without its user network"),
        ("exit 1", "problem", "ended with status 1"),
    ],
)
def test_a_qemu_of_the_machines_own_needs_a_user_network(
    tmp_path: Path, archive: str, monkeypatch: pytest.MonkeyPatch, says: str, level: str, words: str
) -> None:
    program = tmp_path / "bin/qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    found = findings(Settings.read(tmp_path, {"KILN_DEBIAN": archive}))
    assert [finding.level for finding in found if words in finding.text] == [level]


def test_an_archive_that_answers(tmp_path: Path, archive: str) -> None:
    found = findings(Settings.read(tmp_path, {"KILN_DEBIAN": archive}))
    assert Finding(level="ok", text="the Debian archive answers") in found


def test_an_archive_that_does_not_answer(tmp_path: Path) -> None:
    found = findings(Settings.read(tmp_path, {"KILN_DEBIAN": "http://127.0.0.1:9"}))
    problem = next(finding for finding in found if "Debian archive" in finding.text)
    assert problem.level == "problem"
    assert "KILN_DEBIAN" in problem.remedy


def test_a_disk_without_room(tmp_path: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiln.report.doctor._NEEDED", 1 << 60)
    found = findings(Settings.read(tmp_path, {"KILN_DEBIAN": archive}))
    problem = next(finding for finding in found if "GB free" in finding.text)
    assert problem.level == "problem"
    assert "KILN_STORE" in problem.remedy


def test_a_store_that_is_not_there_yet_is_judged_by_its_disk(tmp_path: Path, archive: str) -> None:
    settings = replace(Settings.read(tmp_path, {"KILN_DEBIAN": archive}), store=tmp_path / "a/b/c")
    assert any(f"free in {tmp_path}" in finding.text for finding in findings(settings))
