import re
import shutil
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian
from kiln.source.index import Index
from kiln.source.pinning import bring
from tests.archive import DebianArchive
from tests.servers import Server


@pytest.fixture
def settings(tmp_path: Path, archive: DebianArchive) -> Settings:
    return Settings.read(tmp_path, {"KILN_DEBIAN": archive.url})


def test_files_are_listed_by_source_package(archive: DebianArchive, settings: Settings) -> None:
    first = archive.add("demo_1.orig.tar.gz", b"one")
    second = archive.add("demo_2+dfsg.orig.tar.xz", b"two")
    archive.add("demo-tools_3.orig.tar.gz", b"three")
    found = {item.file: item.sha256 for item in Index(settings).files("demo")}
    assert found == {"demo_1.orig.tar.gz": first, "demo_2+dfsg.orig.tar.xz": second}


def test_no_signature_is_not_taken_for_one(archive: DebianArchive, settings: Settings) -> None:
    archive.add("demo_1.orig.tar.gz", b"one")
    assert [item.signed for item in Index(settings).files("demo")] == [False]


def test_a_suite_that_does_not_answer_is_told_and_the_others_do(archive: DebianArchive, settings: Settings) -> None:
    archive.add("demo_1.orig.tar.gz", b"one", suite="stable")
    index = Index(settings)
    assert len(index.files("demo")) == 1
    assert index.failures == [
        "Debian unstable: the server answered 404 Not Found",
        "Debian oldstable: the server answered 404 Not Found",
    ]


def test_an_index_with_another_digest_is_not_read(archive: DebianArchive, server: Server, settings: Settings) -> None:
    archive.add("demo_1.orig.tar.gz", b"one")
    server.add("/debian/dists/unstable/main/source/Sources.xz", b"something else")
    with pytest.raises(KilnError, match="Debian unstable: sha256 is "):
        Index(settings).files("demo")


def test_an_index_is_downloaded_once_and_an_old_one_does_not_stay(
    archive: DebianArchive, server: Server, settings: Settings
) -> None:
    archive.add("demo_1.orig.tar.gz", b"one")
    for _ in range(2):
        Index(settings).files("demo")
    asked = [path for path, _ in server.asked if path.endswith("unstable/main/source/Sources.xz")]
    assert len(asked) == 1
    archive.add("demo_2.orig.tar.gz", b"two")
    assert len(Index(settings).files("demo")) == 2
    assert len(list((settings.downloads / "debian").glob("*-Sources-unstable.xz"))) == 1


def test_without_an_archive_it_says_so(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path, {"KILN_DEBIAN": "file:///nowhere"})
    with pytest.raises(KilnError, match="Debian unstable: No such file"):
        Index(settings).files("demo")


@pytest.mark.sandbox
@pytest.mark.skipif(
    not (shutil.which("gpgv") and Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists()),
    reason="needs gpgv and Debian's keyring",
)
def test_an_index_that_somebody_changed_is_refused(server: Server, settings: Settings, tmp_path: Path) -> None:
    release = tmp_path / "InRelease"
    bring(f"{debian.archives(None)[0]}/dists/bookworm/InRelease", release)
    genuine = release.read_bytes()
    server.add(
        "/debian/dists/stable/InRelease", re.sub(rb"(?m)^ [0-9a-f]{64} ", b" " + b"0" * 64 + b" ", genuine, count=1)
    )
    index = Index(settings)
    with pytest.raises(KilnError, match="Debian stable: its InRelease is not what Debian has signed"):
        index.files("demo")


@pytest.mark.sandbox
def test_the_real_archive_lists_what_recipes_pin(tmp_path: Path) -> None:
    index = Index(Settings.read(tmp_path, {"KILN_DOWNLOADS": str(Settings.read(tmp_path).downloads)}))
    files = {item.file: item for item in index.files("musl")}
    assert any(re.fullmatch(r"musl_1\.2\.\d+\.orig\.tar\.gz", name) for name in files)
    assert all(re.fullmatch("[0-9a-f]{64}", item.sha256) for item in files.values())
