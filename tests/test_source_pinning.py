import hashlib
from pathlib import Path

import pytest

from kiln.digest import of_tree
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source.pinning import bring, pin_archive, pin_debian, pin_git
from tests.archive import DebianArchive
from tests.servers import Repository, Server, tarball_of

FILES = {"a.c": "int a;\n", ".gitignore": "*.o\n", "bin/run": "#!/bin/sh\n"}
BALL = tarball_of(FILES)


def test_a_tag_and_its_archive_have_one_content(tmp_path: Path, server: Server) -> None:
    repository = Repository(tmp_path / "demo.git")
    commit = repository.commit(FILES, tag="v1")
    server.add("/demo-1.tar.gz", BALL)
    settings = Settings.read(tmp_path, {})
    tag = pin_git(repository.url, "v1", commit, into=tmp_path / "git")
    archive = pin_archive(f"{server.url}/demo-1.tar.gz", into=tmp_path / "archive", settings=settings)
    assert tag.content == archive.content == f"sha256:{of_tree(tmp_path / 'git').hash}"
    assert archive.sha256 == hashlib.sha256(BALL).hexdigest()
    assert [path.name for path in settings.downloads.iterdir()] == [f"{archive.sha256[:12]}-demo-1.tar.gz"]


def test_a_transfer_that_breaks_off_is_taken_up_again(tmp_path: Path, server: Server) -> None:
    server.add("/file", BALL).faults = ["cut 100", "cut 50"]
    bring(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BALL


@pytest.mark.parametrize("known", [False, True])
def test_a_file_of_the_debian_archive(tmp_path: Path, server: Server, known: bool) -> None:
    archive = DebianArchive(server)
    sha256 = archive.add("demo_1.orig.tar.gz", BALL)
    settings = Settings.read(tmp_path, {"KILN_DEBIAN": f"{server.url}/elsewhere {archive.url}"})
    pin = pin_debian("demo_1.orig.tar.gz", sha256 if known else None, into=tmp_path / "source", settings=settings)
    assert pin.sha256 == sha256
    assert (tmp_path / "source/a.c").exists()


def test_every_place_that_failed_is_named(tmp_path: Path, server: Server) -> None:
    settings = Settings.read(tmp_path, {"KILN_DEBIAN": f"{server.url}/one file:///two"})
    with pytest.raises(KilnError) as caught:
        pin_debian("demo_1.orig.tar.gz", None, into=tmp_path / "source", settings=settings)
    assert "/one/pool/main/d/demo/demo_1.orig.tar.gz: the server answered 404" in caught.value.message
    assert "file:///two/pool/main/d/demo/demo_1.orig.tar.gz: No such file or directory" in caught.value.message
