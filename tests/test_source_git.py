import os
import subprocess
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.source.git import checkout, tags
from tests.servers import Repository, serve

FILES = {
    "a.c": "int a;\n",
    "bin/run": "#!/bin/sh\n",
    "link": "-> bin/run",
    "version": "$Format:%H$ $Id$\n",
    "left-out": "kept\n",
    "dos.txt": "text\n",
    ".gitattributes": "version export-subst ident\nleft-out export-ignore\n*.txt text eol=crlf\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "x.git")


@pytest.mark.parametrize("annotated", [False, True])
def test_the_files_of_a_tag_come_as_they_were_committed(
    tmp_path: Path, repository: Repository, annotated: bool
) -> None:
    commit = repository.commit(FILES, tag="v1", annotated=annotated)
    repository.commit({"a.c": "int b;\n", "later": ""}, tag="v2")
    into = tmp_path / "work/src"
    checkout(repository.url, tag="v1", commit=commit, into=into)
    assert {path.name for path in into.iterdir()} == {name.split("/")[0] for name in FILES}
    for name in ("a.c", "version", "left-out", "dos.txt"):
        assert (into / name).read_bytes().decode() == FILES[name]
    assert os.readlink(into / "link") == "bin/run"
    assert os.access(into / "bin/run", os.X_OK)
    assert not os.access(into / "a.c", os.X_OK)
    assert os.listdir(tmp_path / "work") == ["src"]


def test_the_users_settings_do_not_count(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit(FILES, tag="v1")
    config, attributes = tmp_path / "config", tmp_path / "attributes"
    attributes.write_text("* text eol=crlf\n")
    config.write_text(
        f'[core]\nautocrlf = true\nattributesFile = {attributes}\n[url "file:///none"]\ninsteadOf = file:\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    checkout(repository.url, tag="v1", commit=commit, into=tmp_path / "src")
    assert (tmp_path / "src/a.c").read_bytes() == b"int a;\n"
    assert not (tmp_path / "index").exists()


def test_a_server_of_plain_files_will_do(tmp_path: Path, repository: Repository) -> None:
    commit = repository.commit(FILES, tag="v1", annotated=True)
    subprocess.run(["git", "update-server-info"], cwd=repository.path, check=True)
    with serve() as server:
        server.add_folder("/x.git", repository.path)
        checkout(f"{server.url}/x.git", tag="v1", commit=commit, into=tmp_path / "src")
    assert (tmp_path / "src/a.c").read_text() == "int a;\n"


def test_a_tag_that_moved_is_an_error(tmp_path: Path, repository: Repository) -> None:
    found = repository.commit(FILES, tag="v1", annotated=True)
    with pytest.raises(KilnError) as caught:
        checkout(repository.url, tag="v1", commit="1" * 40, into=tmp_path / "src")
    assert str(caught.value) == f"{repository.url}: tag v1 is commit {found}, expected {'1' * 40}"
    assert os.listdir(tmp_path / "src") == []


def test_a_missing_tag_is_an_error(tmp_path: Path, repository: Repository) -> None:
    repository.commit(FILES, tag="v1")
    with pytest.raises(KilnError, match=r"x\.git: git ended with status 128: .*refs/tags/v2"):
        checkout(repository.url, tag="v2", commit="1" * 40, into=tmp_path / "src")


def test_a_missing_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="and the repository exists"):
        checkout(f"file://{tmp_path}/none.git", tag="v1", commit="1" * 40, into=tmp_path / "src")


def test_without_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KilnError, match="git is not installed\n  install git"):
        checkout("file:///x.git", tag="v1", commit="1" * 40, into=tmp_path / "src")


def test_tags_lead_to_commits(repository: Repository) -> None:
    first = repository.commit(FILES, tag="v1")
    second = repository.commit({"b.c": ""}, tag="v2", annotated=True)
    assert tags(repository.url) == {"v1": first, "v2": second}


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="git ended with status 128"):
        tags((tmp_path / "none.git").as_uri())
