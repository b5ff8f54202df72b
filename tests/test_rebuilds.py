"""Exact rebuilds, with small packages: which edit makes what anew. What a run says is checked against the store."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kiln.digest import of_bytes, of_tree
from kiln.graph import Graph
from kiln.settings import Settings
from kiln.target import closure
from kiln.tools import Tools
from kiln.trees import remove
from tests.project import Project
from tests.servers import tarball_of

ROOT = Path(__file__).parent.parent
IMAGES = {"rootfs", "cpio", "tar", "ext4", "disk", "image"}

pytestmark = pytest.mark.sandbox

Edits = dict[str, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A project in a folder of its own, and what runs of doit make in it; ``env`` is added to the environment."""

    root: Path
    board: str
    env: Mapping[str, str]

    def doit(self, *words: str) -> subprocess.CompletedProcess[str]:
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("KILN_", "PYTEST"))}
        command = [sys.executable, "-m", "doit", *words, f"BOARD={self.board}"]
        return subprocess.run(command, cwd=self.root, env=keep | dict(self.env), capture_output=True, text=True)

    def git(self, *words: str) -> None:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *identity, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self, branch: str) -> None:
        """Commit all that is here to a new branch."""
        for words in (["switch", "--create", branch], ["add", "--all"], ["commit", f"--message={branch}"]):
            self.git(*words)

    def edit(self, edits: Edits) -> None:
        """Replace text by other text in each file, or write a new file. A file's time stays as it was."""
        for name, (old, new) in edits.items():
            path = self.root / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            text, times = path.read_text(), path.stat()
            assert old in text
            path.write_text(text.replace(old, new, 1))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def graph(self) -> Graph:
        return Graph.load(Settings.read(self.root, {}), self.board)

    def made(self, *words: str) -> set[str]:
        """What a run of doit (`image`) put into the store; its lines tell the same, and call all the rest cached.

        Only where the output folder was led to what was there, they call that linked.
        """
        words = words or ("image",)
        targets = closure(*(target for target in self.graph().targets if target.id in words))
        before, links = self.results(), self.links()
        run = self.doit(*words)
        assert run.returncode == 0, run.stdout + run.stderr
        names = {target.name: target.id for target in targets}
        made = {names[name] for stamp, name in self.results().items() if stamp not in before}
        built, linked, cached = (
            {line.split()[1] for line in run.stdout.splitlines() if line.startswith(f"{word} ")}
            for word in ("built", "linked", "cached")
        )
        assert built == made
        assert not linked or (linked <= AND_IMAGES and self.links() != links)
        assert cached == {target.id for target in targets if not target.lazy} - built - linked
        return made

    def announced(self) -> tuple[set[str], set[str]]:
        """What `doit why` says will be made for the image, and what may follow from it."""
        said = self.doit("why", "image")
        assert said.returncode == 0, said.stdout
        lines = [line for line in said.stdout.splitlines() if not line.startswith(" ")]
        will, may = ({line.split()[0] for line in lines if word in line} for word in (" will be ", " follows, if "))
        assert len(lines) == (len(will | may) or lines[0].startswith("image is up to date"))
        return will, may

    def check(self, announced: set[str], more: set[str]) -> None:
        """`doit why` announces just that; a run makes it and, of what may follow, ``more``; the next nothing."""
        will, may = self.announced()
        assert will == announced
        assert self.made() == announced | more
        assert more <= may
        assert self.made() == set()

    def results(self) -> dict[tuple[str, int, int], str]:
        """The name of the target of each result; a result that was made anew is another."""
        found = {}
        for stamp in (self.root / "output/store").glob("*/stamp.json"):
            state = stamp.stat()
            found[stamp.parent.name, state.st_ino, state.st_mtime_ns] = json.loads(stamp.read_text())["inputs"]["name"]
        return found

    def links(self) -> dict[str, str]:
        """Where the links of the output folder lead."""
        return {
            path.name: os.readlink(path) for path in (self.root / "output" / self.board).glob("*") if path.is_symlink()
        }

    def result(self, target: str) -> Path:
        """Where the result of a target is, which was made once."""
        (name,) = {each.name for each in self.graph().targets if each.id == target}
        (place,) = {place for (place, _, _), made in self.results().items() if made == name}
        return self.root / "output/store" / place

    def sums(self) -> dict[str, str]:
        """The sums of the images, which are those that the output folder promises."""
        folder = self.root / "output" / self.board
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        promised = {name: expected for expected, name in (line.split("  ") for line in lines)}
        assert promised == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in promised}
        return promised


GREET = """\
/* Says a word,
   and ends. */
#include "greet.h"
const char *greet(void)
{
	return WORD;
}
"""

GREET_PHASES = """\
@package.build
def build(step, board):
    flags = ["-Os", "-DWORD=" + ('"HELLO"' if step.option("loud") else '"hello"')]
    if step.option("strict"):
        flags += ["-Wall"]
    step.run("gcc", *flags, "-c", f"{step.src}/greet.c")
    step.run("ar", "rc", "libgreet.a", "greet.o")

@package.install
def install(step, board):
    step.install("libgreet.a", "usr/lib/libgreet.a")
    step.run("install", "-Dm644", f"{step.src}/greet.h", f"{step.dest}/usr/include/greet.h")
"""

APP_PHASES = """\
@package.build
def build(step, board):
    usr = f"{step.sysroot}/usr"
    step.run("gcc", "-s", f"-I{usr}/include", step.input("files/app.c"), f"{usr}/lib/libgreet.a", "-o", "app")

@package.install
def install(step, board):
    step.install("app", "usr/bin/app", mode=0o755)
"""

COPY = "@package.install\ndef install(step, board):\n    step.copy('files/{0}', '{1}')\n"
SHELL = "@package.install\ndef install(step, board):\n    step.run('sh', '-euc', '{}')\n"

BOARD = """\
hostname = "kiln"

[options.greet]
loud = false
strict = false
idle = false

[users.root]
uid = 0
gid = 0
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Checkout:
    """A project, all of it built, whose tools trees are in another store, which is only read.

    The source of `greet` is an archive; `hall` is a header that needs it, and changes no byte when `greet` does;
    `app` is compiled against both, though it names `hall` alone. `notes` is made with the tool `shout`.
    """
    folder = tmp_path_factory.mktemp("planted")
    trees = folder / "trees"
    trees.mkdir()
    for name in ("sandbox", "build", "image"):
        place = tools[name].built().path
        (trees / place.name).symlink_to(place)
    files = {"greet.c": GREET, "greet.h": "const char *greet(void);\n"}
    for name, text in files.items():
        path = folder / "greet" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    ball = tarball_of(files)
    (folder / "mirror").mkdir()
    (folder / "mirror/greet-1.tar.gz").write_bytes(ball)
    pins = f'sha256="{of_bytes(ball).hash}", content="sha256:{of_tree(folder / "greet").hash}"'
    options = ", ".join(f'"{name}": Option(default=False, doc="")' for name in ("loud", "strict", "idle"))
    project = Project(folder / "project", ROOT)
    project.recipe(
        "greet", f'source=Archive("file:///none/greet-1.tar.gz", {pins})', f"options={{{options}}}", phases=GREET_PHASES
    )
    hall = SHELL.format('mkdir -p /dest/usr/include; echo "#include <greet.h>" > /dest/usr/include/hall.h')
    project.recipe("hall", "libs=('greet',)", phases=hall)
    project.recipe("app", "libs=('hall',), runtime=('data',)", phases=APP_PHASES)
    project.file("packages/app/files/app.c", "#include <hall.h>\nint main(void) { return !greet(); }\n")
    project.recipe("data", phases=COPY.format("data", "usr/share/data"))
    project.file("packages/data/files/data", "some data\n")
    shout = 'mkdir /dest/bin; printf "#!/bin/sh\\ntr a-z A-Z\\n" > /dest/bin/shout; chmod 755 /dest/bin/shout'
    project.recipe("shout", phases=SHELL.format(shout.replace("\\n", "\\\\n")))
    project.recipe(
        "notes", "tools=('shout',)", phases=SHELL.format("mkdir /dest/etc; echo notes | shout > /dest/etc/notes")
    )
    project.recipe("linux", phases=SHELL.format("mkdir /dest/boot; seq 500 > /dest/boot/bzImage"))
    project.file("board/common/extlinux.conf", "DEFAULT linux\nLABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    project.file("board/test/overlay/etc/motd", "welcome\n")
    project.file(".gitignore", "output\n")
    project.board(packages=["app", "notes"], more=BOARD)
    env = {"KILN_SHARED": os.fspath(trees), "KILN_MIRROR": os.fspath(folder / "mirror"), "PYTHONPATH": os.fspath(ROOT)}
    checkout = Checkout(root=project.root, board="test", env=env)
    packages = {f"{name}:build" for name in ("greet", "hall", "app", "data", "shout", "notes", "linux")}
    assert checkout.made() == packages | IMAGES | {"greet:fetch", "licenses"}
    return checkout


@pytest.fixture
def checkout(planted: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(planted.root, tmp_path / "project", symlinks=True)
    return replace(planted, root=tmp_path / "project")


def patch(old: str, new: str) -> Edits:
    """A new patch of the recipe of `greet`, that changes a line."""
    lines = GREET.splitlines()
    body = [f"-{line}\n+{line.replace(old, new)}" if old in line else f" {line}" for line in lines]
    hunk = f"@@ -1,{len(lines)} +1,{len(lines)} @@"
    text = "\n".join(["--- a/greet.c", "+++ b/greet.c", hunk, *body]) + "\n"
    return {"packages/greet/patches/1.patch": ("", text)}


TOML = "configs/test.toml"
NOTHING: set[str] = set()
ABOVE = {"hall:build", "app:build"} | IMAGES
AND_IMAGES = IMAGES - {"rootfs"}


def recipe(name: str, old: str, new: str) -> Edits:
    return {f"packages/{name}/recipe.py": (old, new)}


# By rule: an edit, what it makes for certain, and what in the end follows from that.
RULES: dict[str, tuple[Edits, set[str], set[str]]] = {
    "comments in recipes: nothing": (
        recipe("greet", "\n", "\n# A comment.\n\n\n") | recipe("linux", "\n", "\n\n# Another.\n"), NOTHING, NOTHING),
    "a comment in the board: nothing": ({TOML: ("\n", "\n\n# A comment.\n")}, NOTHING, NOTHING),
    "what a recipe tells of itself: nothing": (recipe("greet", "a test", "a library"), NOTHING, NOTHING),
    "a command that changes a library: what is above too": (
        recipe("greet", '"-Os"', '"-O0"'), {"greet:build"}, ABOVE),
    "a command that leaves a library as it was: nothing above": (
        recipe("greet", '"-Os"', '"-Os", "-Wall"'), {"greet:build"}, NOTHING),
    "an option that changes a library: what is above too": (
        {TOML: ("loud = false", "loud = true")}, {"greet:build"}, ABOVE),
    "an option that leaves a library as it was: nothing above": (
        {TOML: ("strict = false", "strict = true")}, {"greet:build"}, NOTHING),
    "an option that no step reads: nothing": ({TOML: ("idle = false", "idle = true")}, NOTHING, NOTHING),
    "a patch that changes a library: what is above too": (
        patch("WORD", 'WORD "!"'), {"greet:patch", "greet:build"}, ABOVE),
    "a patch of a comment, compiled without debug info: nothing above": (
        patch("Says a word", "Tells a word"), {"greet:patch", "greet:build"}, NOTHING),
    "a tool counts by its commands: what it makes is made again": (
        recipe("shout", "mkdir ", "mkdir -p "), {"shout:build", "notes:build"}, NOTHING),
    "a file of a recipe: its package": (
        {"packages/data/files/data": ("some", "much more")}, {"data:build"}, IMAGES),
    "the kernel: the disk, no file system": (recipe("linux", "seq 500", "seq 501"), {"linux:build"}, {"disk", "image"}),
    "the boot menu: the disk": ({"board/common/extlinux.conf": ("LABEL", "TIMEOUT 9\nLABEL")}, {"disk"}, {"image"}),
    "the kernel's command line: the disk": ({TOML: ("arch =", 'cmdline = "quiet"\narch =')}, {"disk"}, {"image"}),
    "the size of the file system: it and the disk": (
        {TOML: ("arch =", 'root_size = "64M"\narch =')}, {"ext4"}, {"disk", "image"}),
    "an overlay: images": ({"board/test/overlay/etc/note": ("", "a note\n")}, {"rootfs"}, AND_IMAGES),
    "a user: images": ({TOML: ("gid = 0\n", "gid = 0\n[users.kim]\nuid = 1000\ngid = 1000\n")}, {"rootfs"}, AND_IMAGES),
    "a mode: images": (recipe("data", 'license=', 'modes={"usr/share/data": 0o600}, license='), {"rootfs"}, AND_IMAGES),
    "a package less: images": ({TOML: ("'app', 'notes'", "'app'")}, {"rootfs", "licenses"}, AND_IMAGES),
    "a package that the board does not need: nothing": (
        {"packages/spare/recipe.py": ("", 'from kiln import Package\nspare = Package(name="spare", version="1", '
                                          'summary="", license="MIT", libc=False)\n')}, NOTHING, NOTHING),
}  # fmt: skip


@pytest.mark.parametrize(("edits", "announced", "more"), RULES.values(), ids=RULES)
def test_an_edit_rebuilds_just_what_it_changes(
    checkout: Checkout, edits: Edits, announced: set[str], more: set[str]
) -> None:
    checkout.edit(edits)
    checkout.check(announced, more)


SAME_SIZE: dict[str, tuple[Edits, set[str], set[str]]] = {
    "a file of a recipe": ({"packages/data/files/data": ("some", "more")}, {"data:build"}, IMAGES),
    "a C file of a recipe": ({"packages/app/files/app.c": ("!", "*")}, {"app:build"}, IMAGES),
    "a recipe": (recipe("linux", "seq 500", "seq 501"), {"linux:build"}, {"disk", "image"}),
    "an overlay": ({"board/test/overlay/etc/motd": ("welcome", "go away")}, {"rootfs"}, AND_IMAGES),
    "the board": ({TOML: ("kiln", "oven")}, {"rootfs"}, AND_IMAGES),
    "the boot menu": (
        {"board/common/extlinux.conf": ("APPEND @CMDLINE@", "append @CMDLINE@")},
        {"disk"},
        {"image"},
    ),
}


@pytest.mark.parametrize(("edits", "announced", "more"), SAME_SIZE.values(), ids=SAME_SIZE)
def test_an_edit_that_restores_time_and_size_is_noticed(
    checkout: Checkout, edits: Edits, announced: set[str], more: set[str]
) -> None:
    paths = [checkout.root / name for name in edits]
    before = [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
    checkout.edit(edits)
    assert [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths] == before
    checkout.check(announced, more)


def test_new_times_and_other_folders_rebuild_nothing(checkout: Checkout, tmp_path: Path) -> None:
    for path in [*checkout.root.glob("packages/**/*"), *checkout.root.glob("board/**/*")]:
        path.touch()
    assert checkout.made() == set()
    moved = replace(checkout, root=checkout.root.rename(tmp_path / "elsewhere"))
    assert moved.made() == set()


def test_a_patch_taken_away_leads_back_to_what_was_built(checkout: Checkout) -> None:
    before = checkout.sums()
    edits = patch("WORD", 'WORD "!"')
    checkout.edit(edits)
    assert checkout.made() == {"greet:patch", "greet:build"} | ABOVE
    for name in edits:
        (checkout.root / name).unlink()
    assert checkout.made() == set()
    assert checkout.sums() == before


def test_an_option_switched_there_and_back_rebuilds_nothing(checkout: Checkout) -> None:
    there, back = ({TOML: words} for words in (("loud = false", "loud = true"), ("loud = true", "loud = false")))
    before = checkout.sums()
    checkout.edit(there)
    assert checkout.made() == {"greet:build"} | ABOVE
    after = checkout.sums()
    assert after != before
    for edit, sums in ((back, before), (there, after), (back, before)):
        checkout.edit(edit)
        assert checkout.made() == set()
        assert checkout.sums() == sums


def switch_there_and_back(checkout: Checkout, edits: Edits, made: set[str]) -> None:
    """Put the edits on a branch, where they make that much; from then on, switching makes nothing."""
    checkout.git("init", "--initial-branch=none")
    checkout.commit("main")
    sums = {"main": checkout.sums()}
    checkout.edit(edits)
    checkout.commit("other")
    assert checkout.made() == made
    sums["other"] = checkout.sums()
    assert sums["other"] != sums["main"]
    for branch in ("main", "other", "main"):
        checkout.git("switch", branch)
        assert checkout.made() == set()
        assert checkout.sums() == sums[branch]


def test_a_branch_switched_there_and_back_rebuilds_nothing(checkout: Checkout) -> None:
    rules = ("a patch that changes a library: what is above too", "a mode: images", "an overlay: images")
    edits = {name: edit for rule in rules for name, edit in RULES[rule][0].items()}
    switch_there_and_back(checkout, edits, {"greet:patch", "greet:build"} | ABOVE)


@pytest.mark.parametrize(
    ("old", "new", "made"),
    [("", "", set()), ("loud = false", "loud = true", {"greet:build", "hall:build", "app:build"}),
     ("strict = false", "strict = true", {"greet:build"})],
    ids=["but for its name", "with an option that changes a library", "with an option that leaves it as it was"],
)  # fmt: skip
def test_another_board_of_the_architecture_makes_only_what_differs(
    checkout: Checkout, old: str, new: str, made: set[str]
) -> None:
    checkout.edit({"configs/other.toml": ("", (checkout.root / TOML).read_text().replace(old, new))})
    assert replace(checkout, board="other").made() == made | IMAGES | {"licenses"}
    assert checkout.made() == set()


def _delete(path: Path) -> None:
    path.unlink()


def _alter(path: Path) -> None:
    """Change a byte of a file, and neither its size nor its time."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(times.st_mode & 0o777)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _change_mode(path: Path) -> None:
    path.chmod(path.stat().st_mode ^ 0o111)


def _add(path: Path) -> None:
    path.write_text("not from any build\n")


DAMAGE = [
    ("greet:build", "usr/lib/libgreet.a", _alter, "was altered"),
    ("greet:build", "usr/include/greet.h", _delete, "is missing"),
    ("data:build", "usr/share/more", _add, "was added"),
    ("app:build", "usr/bin/app", _change_mode, "was altered"),
    ("shout:build", "bin/shout", _alter, "was altered"),
    ("linux:build", "boot/bzImage", _delete, "is missing"),
    ("rootfs", "manifest.json", _alter, "was altered"),
    ("ext4", "rootfs.ext4", _alter, "was altered"),
    ("disk", "disk.img", _delete, "is missing"),
    ("image", "SHA256SUMS", _delete, "is missing"),
]


@pytest.mark.parametrize(("target", "path", "harm", "word"), DAMAGE, ids=[f"{case[1]} {case[3]}" for case in DAMAGE])
def test_damage_is_named_by_verify_and_mended_by_the_next_run(
    checkout: Checkout, target: str, path: str, harm: Callable[[Path], None], word: str
) -> None:
    entry, sums = checkout.result(target), checkout.sums()
    (entry / "root" / path).parent.chmod(0o755)
    harm(entry / "root" / path)
    found = checkout.doit("verify")
    assert found.returncode != 0
    damaged = [line for line in found.stdout.splitlines() if line.startswith("damaged ")]
    assert damaged == [f"damaged  {entry.name}  {path} {word}"]
    checkout.check({target}, set())
    assert checkout.sums() == sums
    content = checkout.doit("verify")
    assert content.returncode == 0, content.stdout
    assert "damaged" not in content.stdout


def test_a_damaged_source_is_fetched_again_once_something_is_made_from_it(checkout: Checkout) -> None:
    _alter(checkout.result("greet:fetch") / "root/greet.c")
    found = checkout.doit("verify")
    assert found.returncode != 0
    assert "greet.c was altered" in found.stdout
    assert checkout.made() == set()
    assert checkout.doit("verify").returncode == 0
    checkout.edit(RULES["an option that leaves a library as it was: nothing above"][0])
    checkout.check({"greet:fetch", "greet:build"}, set())


@pytest.mark.parametrize("target", ["greet:build", "app:build", "notes:build", "rootfs", "tar", "image"])
def test_a_result_that_is_gone_is_made_again_alone(checkout: Checkout, target: str) -> None:
    sums = checkout.sums()
    remove(checkout.result(target))
    checkout.check({target}, set())
    assert checkout.sums() == sums
