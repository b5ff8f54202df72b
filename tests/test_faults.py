"""Builds that are killed, starved of a process, run side by side, or whose clock and network go wrong."""

import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from kiln.settings import Settings
from kiln.trees import remove
from tests.faults import (
    alive,
    built,
    entries,
    eventually,
    kill,
    leftovers,
    link_tools,
    phases,
    plant,
    results,
    start,
    sums,
    told,
)
from tests.project import Project
from tests.servers import Server, tarball_of

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("KILN_SEED", 0)) or random.randrange(1 << 32)

pytestmark = pytest.mark.sandbox


@pytest.fixture
def env(real_project: Project, tmp_path: Path) -> dict[str, str]:
    return plant(real_project, tmp_path / "sources")


def test_a_build_killed_at_any_moment_ends_with_the_same_image(real_project: Project, tmp_path: Path) -> None:
    env = plant(real_project, tmp_path / "sources") | {"TMPDIR": os.fspath(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    other = link_tools(real_project, tmp_path / "other")
    assert len(built(real_project.doit("image", env=env | {"KILN_STORE": os.fspath(other)}))) == 18
    images, expected = sums(real_project), results(other)
    chance, store, unfinished = random.Random(SEED), real_project.store, 0
    for number in range(50):
        place = f"KILN_SEED={SEED}, round {number}"
        with start(real_project, "image", env=env) as process:
            assert process.stdout
            for _ in range(chance.randrange(30)):  # by what it says, so that the moments are spread on any machine
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.2))
            kill(process, group=chance.random() < 0.5)
        eventually(lambda: not alive(tmp_path), f"{place}: {alive(tmp_path)}")
        unfinished += process.returncode == -signal.SIGKILL
        done = real_project.doit("image", env=env)
        assert done.returncode == 0, place + done.stdout + done.stderr
        assert sums(real_project) == images, place
        assert results(store).items() <= expected.items(), place
        assert leftovers(real_project, store) == [], place
        assert os.listdir(tmp_path / "tmp") == [], place
        assert alive(tmp_path) == [], place
        share = chance.choice((0.3, 1))
        for path in entries(store):
            if chance.random() < share:
                remove(path)
        if chance.random() < 0.5:
            shutil.rmtree(real_project.root / "output/downloads", ignore_errors=True)
    assert unfinished > 20


def test_what_a_kill_left_is_swept_though_nothing_is_to_build(real_project: Project, env: dict[str, str]) -> None:
    built(real_project.doit("image", env=env))
    # As after a kill between the result's publication and the end of the clearing up behind it.
    (real_project.store / "work" / entries(real_project.store)[0].name / "build").mkdir(parents=True)
    assert built(real_project.doit("image", env=env)) == []
    assert leftovers(real_project, real_project.store) == []


@pytest.mark.parametrize("checkouts", [1, 2])
def test_two_builds_in_one_store_share_the_work(
    real_project: Project, env: dict[str, str], tmp_path: Path, checkouts: int
) -> None:
    recipe = real_project.root / "packages/seed/recipe.py"
    recipe.write_text(recipe.read_text().replace("cp /src/seed.h .", "cp /src/seed.h .; sleep 3"))
    projects = [real_project, real_project]
    if checkouts == 2:
        projects[1] = Project(tmp_path / "second", ROOT)
        for name in ("packages", "configs", "board"):
            shutil.copytree(real_project.root / name, projects[1].root / name, dirs_exist_ok=True)
    env |= {"KILN_STORE": os.fspath(real_project.store), "KILN_DOWNLOADS": os.fspath(tmp_path / "downloads")}
    with start(projects[0], "image", env=env) as first, start(projects[1], "image", env=env) as second:
        said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    waiting = [line for line in "\n".join(said).splitlines() if line.startswith("waiting ")]
    assert any("seed-1-" in line for line in waiting), said
    assert sums(projects[0]) == sums(projects[1])
    assert len(results(real_project.store)) == 18
    assert leftovers(real_project, real_project.store) == []
    if checkouts == 2:  # a log beside the output is from a build of its own
        logs = [path.name for project in projects for path in project.root.glob("output/logs/*")]
        assert len(logs) == len(set(logs)) == 8
    assert built(real_project.doit("image", env=env)) == []


@pytest.mark.parametrize("year", [1980, 2100])
def test_no_clock_makes_a_result_stale_or_hides_an_edit(real_project: Project, env: dict[str, str], year: int) -> None:
    built(real_project.doit("image", env=env))
    then = (year - 1970) * 31556952
    for folder, folders, files in os.walk(real_project.root):
        for name in (*folders, *files):
            os.utime(os.path.join(folder, name), (then, then), follow_symlinks=False)
    before = {path: path.stat().st_ino for path in real_project.store.glob("*/stamp.json")}
    assert built(real_project.doit("image", env=env)) == []
    assert {path: path.stat().st_ino for path in before} == before
    patch = real_project.root / "packages/seed/patches/1.patch"
    text = patch.read_text()
    patch.write_text(text.replace("+#define SEED 2", "+#define SEED 3"))
    os.utime(patch, (then, then))
    assert built(real_project.doit("lib:build", env=env)) == ["seed:patch", "seed:build", "lib:build"]
    assert built(real_project.doit("app:build", env=env)) == ["app:build"]
    patch.write_text(text)
    os.utime(patch, (then, then))
    assert built(real_project.doit("lib:build", "app:build", env=env)) == []


def test_a_download_goes_on_where_a_kill_cut_it(real_project: Project, server: Server) -> None:
    ball = tarball_of({"random": random.Random(1).randbytes(150_000).hex()})
    _serve_source(real_project, server, ball, "stall 100000")
    downloads = real_project.root / "output/downloads"
    with start(real_project, "slow:fetch") as process:
        eventually(lambda: sum(path.stat().st_size for path in downloads.glob("*.part")) > 50_000, "nothing came")
        kill(process)
    (part,) = downloads.glob("*.part")
    there = part.stat().st_size
    assert built(real_project.doit("slow:fetch")) == ["slow:fetch"]
    assert server.asked == [("/slow.tar.gz", None), ("/slow.tar.gz", f"bytes={there}-")]
    (kept,) = downloads.iterdir()
    assert kept.read_bytes() == ball
    assert leftovers(real_project, real_project.store) == []


def test_a_download_that_breaks_off_is_taken_up_at_once(real_project: Project, server: Server) -> None:
    ball = tarball_of({"random": random.Random(1).randbytes(150_000).hex()})
    _serve_source(real_project, server, ball, "cut 60000", "cut 50000")
    assert built(real_project.doit("slow:fetch")) == ["slow:fetch"]
    assert [span for _, span in server.asked] == [None, "bytes=60000-", "bytes=110000-"]


def test_git_does_not_outlive_a_killed_doit(real_project: Project, server: Server, tmp_path: Path) -> None:
    server.add("/slow.git/info/refs", bytes(100)).faults.append("stall 10")
    pins = f'tag="1", commit="{"1" * 40}", content="sha256:{"1" * 64}"'
    real_project.recipe("slow", f'source=Git("{server.url}/slow.git", {pins})')
    real_project.board(packages=["slow"])
    real_project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    with start(real_project, "slow:fetch") as process:
        eventually(lambda: server.asked, "nobody asked")
        assert any("git" in words for words in alive(tmp_path))
        kill(process)
    eventually(lambda: not alive(tmp_path), "git is still there", seconds=5)


_MAKEFILE = "all: a b c d\na b c d:\n\tsleep 2.71 && touch $@\n"


@pytest.mark.parametrize("victim", ["make", "sleep 2.71"])
def test_what_a_killed_compiler_leaves_is_enough_for_the_others(real_project: Project, victim: str) -> None:
    for name in ("broken", "other"):
        real_project.file(f"packages/{name}/files/Makefile", _MAKEFILE)
        real_project.recipe(name, phases=(
            "@package.build\ndef build(step, board):\n    step.make('-f', step.input('files/Makefile'))\n"
            + phases(install=f"ls > /dest/{name}")))  # fmt: skip
    real_project.recipe("above", "libs=('broken',)", phases=phases(install="touch /dest/above"))
    real_project.recipe("late", "libs=('other',)", phases=phases(install="touch /dest/late"))
    env = {"KILN_JOBS": "3"}
    with start(real_project, "--continue", "above", "late", env=env) as process:
        eventually(lambda: _shoot(real_project, "broken", victim), f"no {victim} ran")
        out = process.communicate(timeout=120)[0]
    assert process.returncode, out
    assert "Traceback" not in out
    failed = out[out.index("FAILED  broken:build") :]
    assert "phase build" in failed
    assert "lower KILN_JOBS" in failed
    made = {name.partition("-1-")[0] for name in results(real_project.store)}
    assert {"other", "late"} <= made
    assert not {"broken", "above"} & made
    assert built(real_project.doit("above", "late", env=env)) == ["broken:build", "above:build"]
    assert leftovers(real_project, real_project.store) == []


def test_without_continue_what_runs_is_finished_and_kept(real_project: Project) -> None:
    real_project.recipe("broken", phases=phases(install="sleep 1; kill -KILL $$"))
    real_project.recipe("other", phases=phases(install="sleep 2; touch /dest/other"))
    real_project.recipe("late", "libs=('other',)", phases=phases(install="touch /dest/late"))
    assert "FAILED  broken:build" in told(real_project.doit("broken", "late"))
    assert built(real_project.doit("late")) == ["late:build"]


@pytest.mark.boot
@pytest.mark.skipif(not os.environ.get("KILN_SLOW"), reason="takes minutes; KILN_SLOW=1 runs it")
def test_real_packages_survive_kills(real_project: Project, tmp_path: Path) -> None:
    for name in ("packages", "configs", "board"):
        shutil.rmtree(real_project.root / name)
        shutil.copytree(ROOT / name, real_project.root / name)
    (real_project.root / "configs/qemu-x86_64.toml").rename(real_project.root / "configs/test.toml")
    settings = Settings.read(ROOT)
    for source in settings.store.glob("*-source-*"):
        (real_project.store / source.name).symlink_to(source)
    env = {"KILN_DOWNLOADS": os.fspath(settings.downloads), "KILN_CCACHE": "0"}
    other = link_tools(real_project, tmp_path / "other")
    begun = time.monotonic()
    built(real_project.doit("musl", "busybox", env=env | {"KILN_STORE": os.fspath(other)}))
    whole, chance = time.monotonic() - begun, random.Random(SEED)
    for number in range(5):
        with start(real_project, "musl", "busybox", env=env) as process:
            time.sleep(chance.uniform(0, whole / 2))
            kill(process)
        eventually(lambda: not alive(tmp_path), f"KILN_SEED={SEED}, round {number}: {alive(tmp_path)}")
    built(real_project.doit("musl", "busybox", env=env))
    assert results(real_project.store) == results(other)
    assert leftovers(real_project, real_project.store) == []


def _serve_source(project: Project, server: Server, ball: bytes, *faults: str) -> None:
    server.add("/slow.tar.gz", ball).faults += faults
    sha256 = hashlib.sha256(ball).hexdigest()
    project.recipe("slow", f'source=Archive("{server.url}/slow.tar.gz", sha256="{sha256}")')
    project.board(packages=["slow"])
    project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")


def _shoot(project: Project, package: str, words: str) -> bool:
    """Kill a process in the sandbox of a package, as the kernel does where memory runs out."""
    place = os.fspath(project.store / "work" / f"{package}-1-")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(bytes(1), b" ").decode()
            if line.startswith(words) and place in (folder / "mountinfo").read_text():
                os.kill(int(folder.name), signal.SIGKILL)
                return True
        except OSError:
            continue
    return False
