"""``doit track``: what is newer, and how it gets into a recipe."""

import hashlib
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.digest import of_tree
from kiln.recipe.load import load
from kiln.settings import Settings
from kiln.source.fetch import fetch
from kiln.source.pins import Archive, Debian, Git, Source
from kiln.source.unpack import unpack
from tests.archive import DebianArchive
from tests.project import HEADER, Project
from tests.servers import Repository, Server, tarball_of

OLD = {"main.c": "int old;\n"}
NEW = {"main.c": "int new;\n"}
REPACK = {"main.c": "int new;\n", "debian.txt": "repacked\n"}

Track = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "demo.git")


@pytest.fixture
def track(project: Project, archive: DebianArchive) -> Track:
    """Runs ``doit track`` in the project."""

    def _track(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        run = project.doit("track", *words, env={"KILN_DEBIAN": archive.url})
        assert run.returncode == status, run.stdout + run.stderr
        assert "Traceback" not in run.stdout + run.stderr
        return run

    return _track


def content(files: dict[str, str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.tar.gz").write_bytes(tarball_of(files))
        unpack(Path(folder, "x.tar.gz"), Path(folder, "x"))
        return f"sha256:{of_tree(Path(folder, 'x')).hash}"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(project: Project, source: str, *, version: str = "1.2.6", name: str = "demo") -> Path:
    """A recipe with comments, quotes and an order that nobody would choose again."""
    text = f"""\
        # A first comment.
        demo = Package(summary='version {version}', name="{name}",
            version='{version}',  # of 2025
            libc=False, license="MIT",
        {textwrap.indent(textwrap.dedent(source).strip(), " " * 12).strip()}
        )

        @demo.install
        def install(step: Step, board: Board) -> None:
            step.write("version", "{version}")   # stays
    """
    return project.file(f"packages/{name}/recipe.py", HEADER + textwrap.dedent(text))


def git_source(repository: Repository, commit: str, content: str, mirrors: str = "") -> str:
    return f"""\
        source=Git(
            "{repository.url}",
            tag="v1.2.6",  # the tag
            commit="{commit}",
            content="{content}",{mirrors}
        ),"""


def source_of(project: Project, name: str = "demo") -> Source:
    source = load(project.root / "packages")[name].package.source
    assert isinstance(source, Git | Archive | Debian)
    return source


def check_fetch(source: Source, project: Project, archive: DebianArchive, files: dict[str, str]) -> None:
    into, settings = project.root / "fetched", Settings.read(project.root / "other", {"KILN_DEBIAN": archive.url})
    fetch(source, into=into, settings=settings)
    assert {path.name: path.read_text() for path in into.iterdir()} == files


def test_git_tags_by_their_scheme(
    project: Project, repository: Repository, archive: DebianArchive, track: Track
) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    new = repository.commit(NEW, tag="v1.2.10", annotated=True)
    for tag in ("v1.3-rc1", "1.9", "x2.0.0", "latest"):
        repository.commit({tag: ""}, tag=tag)
    file = write(project, git_source(repository, old, content(OLD)))
    before = file.read_text()
    assert "demo 1.2.6 -> 1.2.10 (git)" in track("demo").stdout
    changes = {
        "version='1.2.6'": "version='1.2.10'", '"v1.2.6"': '"v1.2.10"', old: new,
        content(OLD): content(NEW),
    }  # fmt: skip
    expected = before
    for left, right in changes.items():
        assert expected.count(left) == 1
        expected = expected.replace(left, right)
    assert file.read_text() == expected
    check_fetch(source_of(project), project, archive, NEW)
    assert "demo 1.2.10: nothing newer" in track("demo").stdout
    assert file.read_text() == expected


def test_a_mirror_gets_the_pin_of_the_new_version(
    project: Project, repository: Repository, archive: DebianArchive, track: Track
) -> None:
    old, ball = repository.commit(OLD, tag="v1.2.6"), tarball_of(OLD)
    repository.commit(NEW, tag="v1.3")
    mirrors = f"""
            mirrors=[
                Debian("demo_1.2.6.orig.tar.gz", sha256="{archive.add("demo_1.2.6.orig.tar.gz", ball)}"),  # here
            ],"""
    file = write(project, git_source(repository, old, content(OLD), mirrors))
    lines = len(file.read_text().splitlines())
    sha256 = archive.add("demo_1.3.orig.tar.gz", tarball_of(NEW, top="other"))
    assert "demo 1.2.6 -> 1.3 (git, Debian)" in track("demo").stdout
    assert f'Debian("demo_1.3.orig.tar.gz", sha256="{sha256}"),  # here\n' in file.read_text()
    assert len(file.read_text().splitlines()) == lines
    source = source_of(project)
    assert isinstance(source, Git)
    check_fetch(source.mirrors[0], project, archive, NEW)


def test_a_mirror_that_repacks_gets_a_pin_of_its_own(
    project: Project, repository: Repository, archive: DebianArchive, track: Track
) -> None:
    old, ball = repository.commit(OLD, tag="v1.2.6"), tarball_of(OLD)
    repository.commit(NEW, tag="v1.3")
    mirrors = f"""
            mirrors=[Debian("demo_1.2.6.orig.tar.gz", sha256="{archive.add("demo_1.2.6.orig.tar.gz", ball)}")],"""
    write(project, git_source(repository, old, content(OLD), mirrors))
    archive.add("demo_1.3+dfsg.orig.tar.gz", tarball_of(REPACK))
    assert "holds other files than" in track("demo").stdout
    source = source_of(project)
    assert isinstance(source, Git)
    assert source.content == content(NEW)
    assert source.mirrors[0].content == content(REPACK)


@pytest.mark.parametrize("listed", [False, True])
def test_a_mirror_without_the_new_version_is_dropped(
    project: Project, repository: Repository, archive: DebianArchive, track: Track, listed: bool
) -> None:
    old, ball = repository.commit(OLD, tag="v1.2.6"), tarball_of(OLD)
    new = repository.commit(NEW, tag="v1.3")
    mirrors = f"""
            mirrors=[
                Debian("demo_1.2.6.orig.tar.gz", sha256="{archive.add("demo_1.2.6.orig.tar.gz", ball)}"),
            ],"""
    file = write(project, git_source(repository, old, content(OLD), mirrors))
    if listed:
        archive.add("demo_1.3.orig.tar.gz", ball, there=False)
    out = track("demo").stdout
    assert "dropped the mirror demo_1.2.6.orig.tar.gz: " in out
    assert ("the server answered 404" if listed else "the Debian archive has no 1.3") in out
    assert source_of(project) == Git(repository.url, tag="v1.3", commit=new, content=content(NEW))
    assert "mirrors" not in file.read_text()


def test_a_recipe_stays_where_its_mirror_cannot_be_asked(
    project: Project, repository: Repository, server: Server, archive: DebianArchive, track: Track
) -> None:
    old, ball = repository.commit(OLD, tag="v1.2.6"), tarball_of(OLD)
    repository.commit(NEW, tag="v1.3")
    mirrors = f"""
            mirrors=[Debian("demo_1.2.6.orig.tar.gz", sha256="{archive.add("demo_1.2.6.orig.tar.gz", ball)}")],"""
    before = write(project, git_source(repository, old, content(OLD), mirrors)).read_text()
    server.files.clear()
    assert "which is one of its places, cannot be asked" in track("demo", status=1).stdout
    assert (project.root / "packages/demo/recipe.py").read_text() == before


def test_a_file_of_the_debian_archive(project: Project, archive: DebianArchive, track: Track) -> None:
    old = archive.add("demo_1.2.6+ds.orig.tar.gz", tarball_of(OLD))
    file = write(project, f'source=Debian("demo_1.2.6+ds.orig.tar.gz", sha256="{old}", content="{content(OLD)}"),')
    archive.add("demo_1.4~rc1.orig.tar.gz", b"unfinished")
    new = archive.add("demo_1.3.orig.tar.bz2", tarball_of(NEW))
    before = file.read_text()
    assert "wrote    packages/demo/recipe.py: 1.3" in track("demo").stdout
    expected = before.replace("version='1.2.6'", "version='1.3'")
    expected = expected.replace("demo_1.2.6+ds.orig.tar.gz", "demo_1.3.orig.tar.bz2")
    assert file.read_text() == expected.replace(old, new).replace(content(OLD), content(NEW))
    check_fetch(source_of(project), project, archive, NEW)


def test_an_archive_of_the_web_by_what_debian_has(
    project: Project, server: Server, archive: DebianArchive, track: Track
) -> None:
    old, new = tarball_of(OLD), tarball_of(NEW)  # a time is in them, so that another time they differ
    server.add("/v1.2/demo-1.2.6.tar.gz", old)
    server.add("/v1.3/demo-1.3.tar.gz", new)
    server.add("/mirror/demo-1.3.tar.gz", tarball_of(NEW, top="another"))
    archived = archive.add("demo_1.2.6.orig.tar.gz", tarball_of(OLD))
    archive.add("demo_1.3.orig.tar.gz", tarball_of(NEW))
    write(
        project,
        f"""\
        source=Archive("{server.url}/v1.2/demo-1.2.6.tar.gz", sha256="{sha(old)}", mirrors=[
            Archive("{server.url}/mirror/demo-1.2.6.tar.gz", sha256="{"1" * 64}"),
            Archive("{server.url}/gone/demo-1.2.6.tar.gz", sha256="{"1" * 64}"),
            Debian("demo_1.2.6.orig.tar.gz", sha256="{archived}"),
        ]),""",
    )
    assert f"dropped the mirror {server.url}/gone/demo-1.2.6.tar.gz" in track("demo").stdout
    source = source_of(project)
    assert isinstance(source, Archive)
    assert source.url == f"{server.url}/v1.3/demo-1.3.tar.gz"
    assert source.sha256 == sha(new)
    assert [getattr(mirror, "url", None) for mirror in source.mirrors] == [f"{server.url}/mirror/demo-1.3.tar.gz", None]
    for pin in (source, *source.mirrors):
        check_fetch(pin, project, archive, NEW)


def test_nothing_is_written_where_the_source_itself_cannot_be_had(
    project: Project, server: Server, archive: DebianArchive, track: Track
) -> None:
    archived = archive.add("demo_1.2.6.orig.tar.gz", tarball_of(OLD))
    archive.add("demo_1.3.orig.tar.gz", tarball_of(NEW))
    before = write(
        project,
        f"""\
        source=Archive("{server.url}/demo-1.2.6.tar.gz", sha256="{"1" * 64}",
                       mirrors=[Debian("demo_1.2.6.orig.tar.gz", sha256="{archived}")]),""",
    ).read_text()
    assert "demo-1.3.tar.gz: the server answered 404" in track("demo", status=1).stdout
    folder = project.root / "packages/demo"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"recipe.py": before}
    assert not list((project.store / "work").glob("*"))


def test_what_only_the_archive_has_is_told(
    project: Project, repository: Repository, archive: DebianArchive, track: Track
) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    archived = archive.add("demo_1.2.6.orig.tar.gz", tarball_of(OLD))
    archive.add("demo_1.3.orig.tar.gz", tarball_of(NEW))
    mirrors = f"""
            mirrors=[Debian("demo_1.2.6.orig.tar.gz", sha256="{archived}")],"""
    before = write(project, git_source(repository, old, content(OLD), mirrors)).read_text()
    out = track("demo", status=1).stdout
    assert "Debian has 1.3, but no tag of it is known from file://" in out
    assert "the recipe is left as it is" in out
    assert (project.root / "packages/demo/recipe.py").read_text() == before


def test_a_series_is_not_left(project: Project, repository: Repository, track: Track) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    for number, tag in enumerate(("v1.2.7", "v1.20.1", "v2.0.0")):
        repository.commit(NEW | {"number": str(number)}, tag=tag)
    write(project, git_source(repository, old, content(OLD)))
    assert "demo 1.2.6 -> 1.2.7 (git)" in track("demo", "1.2").stdout
    assert load(project.root / "packages")["demo"].package.version == "1.2.7"


@pytest.mark.parametrize("words", [("--dry-run", "demo"), ("demo", "--dry-run")])
def test_a_dry_run_writes_nothing(
    project: Project, repository: Repository, track: Track, words: tuple[str, ...]
) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    repository.commit(NEW, tag="v1.3")
    file = write(project, git_source(repository, old, content(OLD)))
    before = file.stat().st_ino, file.stat().st_mtime_ns, file.read_text()
    assert track(*words).stdout == "demo 1.2.6 -> 1.3 (git)\n"
    assert (file.stat().st_ino, file.stat().st_mtime_ns, file.read_text()) == before


def test_a_package_of_the_same_source_goes_along(project: Project, repository: Repository, track: Track) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    repository.commit(NEW, tag="v1.3")
    write(project, git_source(repository, old, content(OLD)))
    write(project, 'source="demo",', name="headers")
    assert "wrote    packages/headers/recipe.py: 1.3" in track("demo").stdout
    recipes = load(project.root / "packages")
    assert [recipes[name].package.version for name in ("demo", "headers")] == ["1.3", "1.3"]
    assert "has no source of its own\n    doit track demo" in track("headers", status=1).stdout


def test_all_packages_in_a_table_and_what_did_not_answer(
    project: Project, repository: Repository, archive: DebianArchive, track: Track
) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    repository.commit(NEW, tag="v1.3")
    demo = write(project, git_source(repository, old, content(OLD))).read_text()
    archived = archive.add("same_1.2.6.orig.tar.gz", tarball_of(OLD))
    write(project, f'source=Debian("same_1.2.6.orig.tar.gz", sha256="{archived}"),', name="same")
    write(
        project,
        f'source=Git("file:///none.git", tag="v1.2.6", commit="{old}", content="{content(OLD)}"),',
        name="gone",
    )
    write(project, f'source=Archive("file:///x-1.2.6.tar.gz", sha256="{"1" * 64}"),', name="alone")
    rows = [re.split(r"  +", line.rstrip()) for line in track().stdout.splitlines()]
    assert rows[:5] == [
        ["package", "version", "newest", "from"],
        ["alone", "1.2.6", "?"],
        ["demo", "1.2.6", "1.3", "git"],
        ["gone", "1.2.6", "?"],
        ["same", "1.2.6", "-", "Debian"],
    ]
    notes = [row[1] for row in rows[5:]]
    assert notes[0].startswith("gone: git: git ended with status 128")
    assert "Debian stable: the server answered 404 Not Found" in notes
    assert (project.root / "packages/demo/recipe.py").read_text() == demo


def test_a_recipe_that_computes_its_version_is_left_to_its_author(
    project: Project, repository: Repository, track: Track
) -> None:
    old = repository.commit(OLD, tag="v1.2.6")
    repository.commit(NEW, tag="v1.3")
    file = write(project, git_source(repository, old, content(OLD)))
    file.write_text(file.read_text().replace("version='1.2.6'", "version='.'.join('126')"))
    before = file.read_text()
    out = track("demo", status=1).stdout
    assert "packages/demo/recipe.py:4: version is not written as a plain string" in out
    assert "edit this recipe by hand" in out
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dmeo",), "there is no package 'dmeo'"),
        (("demo", "1", "2"), "name one package"),
        (("demo", "--force"), "name one package"),
    ],
)
def test_mistyped_words(project: Project, track: Track, words: tuple[str, ...], message: str) -> None:
    project.recipe("demo")
    assert message in track(*words, status=1).stdout


@pytest.mark.sandbox
def test_the_real_archive(project: Project) -> None:
    """Its oldest stable release keeps this file, and newer ones have newer versions."""
    pin = f'source=Debian("musl_1.2.3.orig.tar.gz", sha256="{"1" * 64}"),'
    file = write(project, pin, version="1.2.3", name="musl")
    run = project.doit("track", "musl", env={"KILN_DOWNLOADS": str(Settings.read(Path.cwd()).downloads)})
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"musl 1\.2\.3 -> (\d+\.\d+\.\d+) \(Debian\)", run.stdout)
    assert found
    assert f"version='{found[1]}'" in file.read_text()
    source = source_of(project, "musl")
    assert isinstance(source, Debian)
    assert source.file.startswith(f"musl_{found[1]}")
    fetch(source, into=project.root / "fetched", settings=Settings.read(Path.cwd()))
    assert (project.root / "fetched/include/stdio.h").exists()
