"""``doit new-package``: what it writes, and what it leaves where it cannot."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.digest import of_tree
from kiln.recipe.load import load
from kiln.recipe.package import Package
from kiln.settings import Settings
from kiln.source.fetch import fetch
from kiln.source.pins import Archive, Debian, Git
from tests.archive import DebianArchive
from tests.project import Project
from tests.servers import Repository, Server, tarball_of

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and\n"
FILES = {"configure": "#!/bin/sh\n", "main.c": "int main;\n", "COPYING": MIT}

New = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def new(project: Project, archive: DebianArchive) -> New:
    """Runs ``doit new-package`` in the project."""

    def _new(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        run = project.doit("new-package", *words, env={"KILN_DEBIAN": archive.url})
        assert run.returncode == status, run.stdout + run.stderr
        assert "Traceback" not in run.stdout + run.stderr
        return run

    return _new


def recipe(project: Project, name: str = "demo") -> Package:
    """The written package, which is formatted well."""
    formatted(project.root / f"packages/{name}/recipe.py")
    return load(project.root / "packages")[name].package


def formatted(file: Path) -> None:
    for words in (("format", "--check"), ("check", "--extend-select=E501")):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length=120", str(file)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr + file.read_text()


def fetched(package: Package, project: Project, archive: DebianArchive) -> str:
    assert isinstance(package.source, Git | Archive | Debian)
    into, settings = project.root / "fetched", Settings.read(project.root / "other", {"KILN_DEBIAN": archive.url})
    fetch(package.source, into=into, settings=settings)
    assert f"sha256:{of_tree(into).hash}" == package.source.content
    return ", ".join(sorted(path.name for path in into.iterdir()))


def toolchain(project: Project) -> None:
    """What every package for the board needs."""
    for name in ("toolchain", "linux-headers", "musl"):
        project.recipe(name)


def test_an_archive_of_the_web(project: Project, server: Server, archive: DebianArchive, new: New) -> None:
    server.add("/demo-1.2.tar.gz", tarball_of(FILES))
    out = new("demo", f"{server.url}/demo-1.2.tar.gz").stdout
    package = recipe(project)
    assert (type(package).__name__, package.version, package.license) == ("Autotools", "1.2", "MIT")
    assert package.license_files == ("COPYING",)
    assert isinstance(package.source, Archive)
    assert package.source.url == f"{server.url}/demo-1.2.tar.gz"
    assert fetched(package, project, archive) == "COPYING, configure, main.c"
    assert "Autotools, because it has configure" in out
    assert "compare the sha256" in out
    assert "left     summary: say what it is" in out
    assert "license: say" not in out
    assert "this machine alone" not in out


def test_what_was_downloaded_is_not_downloaded_again(project: Project, server: Server, new: New) -> None:
    server.add("/demo-1.2.tar.gz", tarball_of(FILES))
    new("demo", f"{server.url}/demo-1.2.tar.gz")
    package = recipe(project)
    assert isinstance(package.source, Archive)
    fetch(package.source, into=project.root / "fetched", settings=Settings.read(project.root, {}))
    assert [path for path, _ in server.asked].count("/demo-1.2.tar.gz") == 1


@pytest.mark.parametrize("as_url", [False, True])
def test_a_local_archive(project: Project, archive: DebianArchive, new: New, as_url: bool) -> None:
    file = project.root / "demo-1.2.tar.gz"
    file.write_bytes(tarball_of(FILES))
    out = new("demo", file.as_uri() if as_url else file.name).stdout
    assert "it is had on this machine alone" in out
    package = recipe(project)
    assert isinstance(package.source, Archive)
    assert package.source.url == file.as_uri()
    fetched(package, project, archive)


def test_a_tag_of_git(project: Project, tmp_path: Path, archive: DebianArchive, new: New) -> None:
    repository = Repository(tmp_path / "demo.git")
    commit = repository.commit({"meson.build": "project('demo')\n", "LICENSE": MIT}, tag="v1.2", annotated=True)
    repository.commit({"more": ""}, tag="v1.3")
    new("demo", f"{repository.url}#v1.2")
    package = recipe(project)
    assert (type(package).__name__, package.version) == ("Meson", "1.2")
    assert isinstance(package.source, Git)
    assert (package.source.tag, package.source.commit) == ("v1.2", commit)
    assert fetched(package, project, archive) == "LICENSE, meson.build"


@pytest.mark.parametrize(("words", "tag"), [((), "v1.10"), (("1.9",), "v1.9")])
def test_the_newest_tag_or_that_of_a_version(
    project: Project, tmp_path: Path, new: New, words: tuple[str, ...], tag: str
) -> None:
    repository = Repository(tmp_path / "demo.git")
    for name in ("v1.9", "v1.10", "v1.11-rc1", "before-1.9", "nightly"):
        repository.commit(FILES | {"version": name}, tag=name)
    new("demo", repository.url, *words)
    package = recipe(project)
    assert isinstance(package.source, Git)
    assert (package.source.tag, package.version) == (tag, tag[1:])


def test_a_file_of_the_debian_archive(project: Project, archive: DebianArchive, new: New) -> None:
    sha256 = archive.add("demo_1.2+dfsg.orig.tar.gz", tarball_of(FILES))
    out = new("demo", "demo_1.2+dfsg.orig.tar.gz").stdout
    package = recipe(project)
    assert package.version == "1.2"
    assert isinstance(package.source, Debian)
    assert package.source.sha256 == sha256
    assert "whose signature could not be checked" in out
    fetched(package, project, archive)


def test_a_file_of_which_no_index_is_at_hand(
    project: Project, server: Server, archive: DebianArchive, new: New
) -> None:
    sha256 = archive.add("demo_1.2.orig.tar.gz", tarball_of(FILES))
    del server.files["/debian/dists/unstable/InRelease"]
    out = new("demo", "demo_1.2.orig.tar.gz").stdout
    package = recipe(project)
    assert isinstance(package.source, Debian)
    assert package.source.sha256 == sha256
    assert "as it came just now: no index of the archive that could be read lists it" in out


def test_a_file_that_is_not_what_the_index_says(
    project: Project, server: Server, archive: DebianArchive, new: New
) -> None:
    archive.add("demo_1.2.orig.tar.gz", tarball_of(FILES))
    server.add("/debian/pool/main/d/demo/demo_1.2.orig.tar.gz", tarball_of(FILES | {"evil": ""}))
    assert "sha256 is " in new("demo", "demo_1.2.orig.tar.gz", status=1).stdout
    assert not (project.root / "packages/demo").exists()


@pytest.mark.parametrize(
    ("files", "style", "phases"),
    [
        ({"meson.build": "", "configure": "#!/bin/sh\n"}, "Meson", set()),
        ({"configure": "#!/bin/sh\n", "Makefile": ""}, "Autotools", set()),
        ({"Kconfig": "", "Makefile": "", "scripts/a": ""}, "Kconfig", {"install"}),
        ({"Config.in": "", "Makefile": ""}, "Kconfig", {"install"}),
        ({"Makefile": "all:\n"}, "Package", {"build", "install"}),
    ],
)
def test_the_style_follows_from_the_source(
    project: Project, new: New, files: dict[str, str], style: str, phases: set[str]
) -> None:
    (project.root / "demo-1.tar.gz").write_bytes(tarball_of(files | {"COPYING": MIT}))
    new("demo", "demo-1.tar.gz")
    package = recipe(project)
    assert type(package).__name__ == style
    assert set(package.phases) == phases
    toolchain(project)
    plan = project.doit("info", "demo:build").stdout
    assert "install" in plan


def test_where_nothing_is_known_the_recipe_says_what_to_fill_in(project: Project, new: New) -> None:
    (project.root / "demo-1.tar.gz").write_bytes(tarball_of({"configure.ac": "", "COPYING": "as you please\n"}))
    out = new("demo", "demo-1.tar.gz").stdout
    for text in ("license: say which", "phases: say how", "a release archive, rather than a git tag"):
        assert text in out
    run = project.doit("list")
    assert run.returncode == 3
    assert "packages/demo/recipe.py:3, package demo, license: " in run.stderr
    assert "fill in: the SPDX expression of COPYING" in run.stderr
    file = project.root / "packages/demo/recipe.py"
    file.write_text(file.read_text().replace('"fill in: the SPDX expression of COPYING"', '"MIT"'))
    recipe(project)
    toolchain(project)
    run = project.doit("list")
    assert re.search(r"packages/demo/recipe.py:\d+: fill in: how it is built, and an install phase", run.stderr)


@pytest.mark.parametrize("name", ["7zip", "class", "lua5.4", "gtk+"])
def test_names_that_are_no_words_of_python(project: Project, new: New, name: str) -> None:
    (project.root / "demo-1.tar.gz").write_bytes(tarball_of(FILES))
    new(name, "demo-1.tar.gz")
    assert recipe(project, name).name == name


def test_long_names_and_many_licences_are_formatted(project: Project, server: Server, new: New) -> None:
    server.add(
        f"/{'long/' * 20}demo-1.tar.gz", tarball_of({"Makefile": ""} | {f"COPYING.{n:030}": "" for n in range(5)})
    )
    new("demo", f"{server.url}/{'long/' * 20}demo-1.tar.gz")
    formatted(project.root / "packages/demo/recipe.py")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo",), "say what it is called and where it is"),
        (("Demo", "demo-1.tar.gz"), "'Demo' is no package name"),
        (("linux", "demo-1.tar.gz"), "is there already, and is left as it is"),
        (("qemu", "demo-1.tar.gz"), "`doit qemu` means something else already"),
        (("strace", "demo-1.tar.gz"), "`doit strace` means something else already"),
        (("demo", "main.tar.gz"), "its version cannot be told"),
        (("demo", "none-1.tar.gz"), "none-1.tar.gz cannot be had"),
        (("demo", "broken-1.tar.gz"), "is damaged or no tar archive"),
        (("demo", "demo_1.orig.tar.gz"), "demo_1.orig.tar.gz cannot be had"),
        (("demo", "file:///none.git#v1"), "none.git"),
        (("demo", "nowhere"), "git ended with status 128"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    project: Project, new: New, words: tuple[str, ...], message: str
) -> None:
    for name in ("demo-1.tar.gz", "main.tar.gz"):
        (project.root / name).write_bytes(tarball_of(FILES))
    (project.root / "broken-1.tar.gz").write_bytes(b"no archive")
    before = {path: path.read_bytes() for path in (project.root / "packages").rglob("*") if path.is_file()}
    assert message in new(*words, status=1).stdout
    assert {path: path.read_bytes() for path in (project.root / "packages").rglob("*") if path.is_file()} == before
    assert [path.name for path in (project.root / "packages").iterdir()] == ["linux"]
    assert not list((project.store / "work").glob("*"))


@pytest.mark.parametrize("address", ["#v2", ""])
def test_a_tag_that_is_not_there(project: Project, tmp_path: Path, new: New, address: str) -> None:
    repository = Repository(tmp_path / "demo.git")
    repository.commit(FILES, tag="nightly")
    out = new("demo", repository.url + address, status=1).stdout
    assert ("there is no tag 'v2'" if address else "no tag looks like a release") in out
    assert "demo.git#TAG" in out


def test_a_kill_leaves_nothing(project: Project, server: Server, archive: DebianArchive) -> None:
    served = server.add("/demo-1.tar.gz", tarball_of(FILES))
    served.faults = ["stall 10"]
    process = subprocess.Popen(
        project.command("new-package", "demo", f"{server.url}/demo-1.tar.gz"), cwd=project.root, env=project.env(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not server.asked:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert [path.name for path in (project.root / "packages").iterdir()] == ["linux"]
    assert not list((project.root / "output/downloads").glob("*"))
    run = project.doit("new-package", "demo", f"{server.url}/demo-1.tar.gz")
    assert run.returncode == 0, run.stdout + run.stderr
    recipe(project)
    assert not list((project.store / "work").glob("*"))
