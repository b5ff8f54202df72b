import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.digest import of_tree
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source.debian import pool_path
from kiln.source.fetch import fetch
from kiln.source.pins import Archive, Debian, Git
from tests.servers import Repository, Server, tarball_of

FILES = {"a.c": "int a;\n", "bin/run": "#!/bin/sh\n", "link": "-> bin/run"}
BALL = tarball_of(FILES)
SHA = hashlib.sha256(BALL).hexdigest()
REPACK = tarball_of({"a.c": "int a;\n"}, top="repack")
REPACK_SHA = hashlib.sha256(REPACK).hexdigest()
NAME = "demo_1.orig.tar.gz"
KEPT = f"{SHA[:12]}-{NAME}"
WRONG = "f" * 64


@pytest.fixture
def settings(tmp_path: Path, server: Server) -> Settings:
    env = {"KILN_DEBIAN": f"{server.url}/debian"}
    return Settings.read(tmp_path, env)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "work/src"


@pytest.fixture
def content(tmp_path: Path) -> str:
    """The digest of the files, by way of a local archive without a content pin."""
    (tmp_path / "x.tar.gz").write_bytes(BALL)
    source = Archive(str(tmp_path / "x.tar.gz"), sha256=SHA)
    fetch(source, into=tmp_path / "first", settings=Settings.read(tmp_path / "other", {}))
    return of_tree(tmp_path / "first").hash


def dead(content: str, *mirrors: Archive | Debian) -> Git:
    return Git("file:///none.git", tag="v1", commit="1" * 40, content=f"sha256:{content}", mirrors=mirrors)


def paths(server: Server) -> list[str]:
    return [path for path, _ in server.asked]


def test_a_git_tag_and_an_archive_satisfy_one_pin(tmp_path: Path, settings: Settings, content: str, into: Path) -> None:
    repository = Repository(tmp_path / "x.git")
    commit = repository.commit(FILES | {".gitignore": "*.o", ".gitattributes": "a.c ident"}, tag="v1", annotated=True)
    source = Git(repository.url, tag="v1", commit=commit, content=f"sha256:{content}")
    assert fetch(source, into=into, settings=settings) == f"git {repository.url} v1"
    assert of_tree(into).hash == content
    assert sorted(os.listdir(into)) == ["a.c", "bin", "link"]


def test_where_upstream_fails_the_debian_archive_has_it(
    server: Server, settings: Settings, content: str, into: Path
) -> None:
    server.add(f"/debian/{pool_path(NAME)}", BALL)
    place = fetch(dead(content, Debian(NAME, sha256=SHA)), into=into, settings=settings)
    assert place == f"Debian archive {server.url}/debian/{pool_path(NAME)}"
    assert of_tree(into).hash == content
    assert os.listdir(settings.downloads) == [KEPT]


def test_a_component_of_the_debian_archive_has_its_own_pool(
    server: Server, settings: Settings, content: str, into: Path
) -> None:
    server.add(f"/debian/pool/non-free-firmware/d/demo/{NAME}", BALL)
    with pytest.raises(KilnError, match="404"):
        fetch(Debian(NAME, sha256=SHA), into=into, settings=settings)
    fetch(Debian(NAME, sha256=SHA, component="non-free-firmware"), into=into, settings=settings)
    assert of_tree(into).hash == content


def test_a_security_archive_has_its_own_pool(server: Server, settings: Settings, content: str, into: Path) -> None:
    settings = replace(settings, archive=f"{server.url}/debian {server.url}/debian-security")
    server.add(f"/debian-security/pool/updates/main/d/demo/{NAME}", BALL)
    fetch(dead(content, Debian(NAME, sha256=SHA)), into=into, settings=settings)
    assert (into / "a.c").exists()


def test_the_downloads_folder_comes_first_whatever_the_origins_order(
    server: Server, settings: Settings, content: str, into: Path
) -> None:
    server.add("/x.tar.gz", BALL)
    settings.downloads.mkdir(parents=True)
    (settings.downloads / KEPT).write_bytes(BALL)
    source = Archive(
        f"{server.url}/x.tar.gz", sha256=SHA, content=f"sha256:{content}", mirrors=[Debian(NAME, sha256=SHA)]
    )
    place = fetch(source, into=into, settings=replace(settings, mirror=f"{server.url}/mirror"))
    assert place == f"downloads folder {settings.downloads / KEPT}"
    assert server.asked == []


def test_then_the_mirror_then_upstream(server: Server, settings: Settings, content: str, into: Path) -> None:
    server.add("/up/x.tar.gz", BALL)
    server.add(f"/mirror/sha256/{SHA}", BALL)
    source = Archive(f"{server.url}/up/x.tar.gz", sha256=SHA, content=f"sha256:{content}")
    settings = replace(settings, mirror=f"{server.url}/mirror/")
    assert fetch(source, into=into, settings=settings) == f"mirror {server.url}/mirror/sha256/{SHA}"
    del server.files[f"/mirror/sha256/{SHA}"]
    (settings.downloads / f"{SHA[:12]}-x.tar.gz").unlink()
    assert fetch(source, into=into, settings=settings) == f"archive {server.url}/up/x.tar.gz"
    assert paths(server)[2:] == ["/mirror/x.tar.gz", f"/mirror/sha256/{SHA}", "/up/x.tar.gz"]


def test_a_folder_can_be_the_mirror(tmp_path: Path, settings: Settings, content: str, into: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(BALL)
    settings = replace(settings, mirror=str(tmp_path / "mirror"))
    place = fetch(dead(content, Debian(NAME, sha256=SHA)), into=into, settings=settings)
    assert place == f"mirror {tmp_path}/mirror/{NAME}"


def test_a_spoiled_download_is_replaced(server: Server, settings: Settings, content: str, into: Path) -> None:
    server.add(f"/debian/{pool_path(NAME)}", BALL)
    settings.downloads.mkdir(parents=True)
    (settings.downloads / KEPT).write_bytes(b"spoiled")
    fetch(dead(content, Debian(NAME, sha256=SHA)), into=into, settings=settings)
    assert (settings.downloads / KEPT).read_bytes() == BALL


def test_a_repack_is_a_variant_of_its_own(
    tmp_path: Path, server: Server, settings: Settings, content: str, into: Path
) -> None:
    (tmp_path / "r.tar.gz").write_bytes(REPACK)
    fetch(Archive(str(tmp_path / "r.tar.gz"), sha256=REPACK_SHA), into=into, settings=settings)
    alone = of_tree(into).hash
    server.add(f"/debian/{pool_path('demo_1+ds.orig.tar.gz')}", REPACK)
    repack = Debian("demo_1+ds.orig.tar.gz", sha256=REPACK_SHA, content=f"sha256:{alone}")
    fetch(dead(content, Debian(NAME, sha256=SHA), repack), into=into, settings=settings)
    assert of_tree(into).hash == alone
    assert os.listdir(into) == ["a.c"]


def test_other_files_than_the_pins_are_not_taken_and_asked_for_once(
    server: Server, settings: Settings, content: str, into: Path
) -> None:
    server.add("/x.tar.gz", REPACK)
    server.add(f"/debian/{pool_path(NAME)}", BALL)
    source = Archive(
        f"{server.url}/x.tar.gz",
        sha256=REPACK_SHA,
        content=f"sha256:{content}",
        mirrors=[Debian(NAME, sha256=SHA)],
    )
    assert fetch(source, into=into, settings=settings).startswith("Debian archive")
    assert sorted(os.listdir(into)) == ["a.c", "bin", "link"]
    assert paths(server) == ["/x.tar.gz", f"/debian/{pool_path(NAME)}"]


def test_when_all_fail_each_place_is_told_with_its_reason(
    server: Server, settings: Settings, content: str, into: Path
) -> None:
    settings = replace(settings, mirror=f"{server.url}/mirror", archive=f"{server.url}/debian {server.url}/old")
    server.add("/x.tar.gz", BALL)
    server.add(f"/old/{pool_path('demo_2.orig.tar.gz')}", b"other")
    settings.downloads.mkdir(parents=True)
    (settings.downloads / f"{WRONG[:12]}-demo_2.orig.tar.gz").write_bytes(b"spoiled")
    source = Git(
        "file:///none.git",
        tag="v1",
        commit="1" * 40,
        content=f"sha256:{WRONG}",
        mirrors=[Archive(f"{server.url}/x.tar.gz", sha256=SHA), Debian("demo_2.orig.tar.gz", sha256=WRONG)],
    )
    with pytest.raises(KilnError) as caught:
        fetch(source, into=into, settings=settings)
    place = pool_path("demo_2.orig.tar.gz")
    expected = [
        ("git file:///none.git v1: cannot be had from anywhere", ""),
        (f"  downloads folder {settings.downloads}/{WRONG[:12]}-demo_2.orig.tar.gz: sha256 is ", "removed"),
        (f"  mirror {server.url}/mirror/x.tar.gz: the server answered 404", ""),
        (f"  mirror {server.url}/mirror/sha256/{SHA}: the server answered 404", ""),
        (f"  mirror {server.url}/mirror/demo_2.orig.tar.gz: the server answered 404", ""),
        (f"  mirror {server.url}/mirror/sha256/{WRONG}: the server answered 404", ""),
        ("  git file:///none.git v1: git ended with status 128: ", ""),
        (f"  archive {server.url}/x.tar.gz: content is sha256:{content}, expected sha256:{WRONG}", ""),
        (f"  Debian archive {server.url}/debian/{place}: the server answered 404", ""),
        (f"  Debian archive {server.url}/old/{place}: sha256 is ", f"expected {WRONG}"),
        ("  check the network, or put x.tar.gz or demo_2.orig.tar.gz into a folder and set KILN_MIRROR to it", ""),
    ]
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected)
    for line, (start, end) in zip(lines, expected, strict=True):
        assert line.startswith(start)
        assert line.endswith(end)
    assert os.listdir(into) == []


def test_an_archive_that_reaches_outside_is_one_more_failure(settings: Settings, tmp_path: Path, into: Path) -> None:
    ball = tarball_of({"a": "-> ../../x"})
    (tmp_path / "x.tar.gz").write_bytes(ball)
    source = Archive(str(tmp_path / "x.tar.gz"), sha256=hashlib.sha256(ball).hexdigest())
    with pytest.raises(KilnError, match="a is a link that leads outside"):
        fetch(source, into=into, settings=settings)
    assert os.listdir(into) == []
