"""Packages that are really built, in the real sandbox; where a test builds twice, each is a process as a user's."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.stage import BuildFailed, script
from kiln.store import Entry, Work
from kiln.target import closure
from kiln.trees import EPOCH
from tests.project import Project

ROOT = Path(__file__).parent.parent


def phase(name: str, *lines: str) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"\n@package.{name}\ndef {name}(step, board):\n{body}"


def install(*lines: str) -> str:
    return phase("install", *lines)


def sh(command: str) -> str:
    return f"step.run('sh', '-euc', {command!r})"


DONE = "step.write('done', '')"


def build(graph: Graph, name: str) -> Entry:
    for target in closure(graph.result(name)):
        target.build()
    return graph.result(name).built()


def doit(project: Project, *names: str) -> Graph:
    done = project.doit(*(f"{name}:build" for name in names))
    assert done.returncode == 0, done.stdout + done.stderr
    return project.graph()


def test_a_script_runs_the_phases_that_it_is_given() -> None:
    text = script({"build": [{"run": ["make"], "cwd": "/build", "env": {}}], "install": []})
    assert "phase_build() {\n(cd /build && make)\n}" in text
    assert "phase_install() {\n:\n}" in text


@pytest.mark.sandbox
def test_a_program_is_compiled_with_the_tools_alone(real_project: Project) -> None:
    real_project.file(
        "packages/hello/files/hello.c", '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'
    )
    real_project.recipe(
        "hello",
        phases=phase("build", "step.run('gcc', '-o', 'hello', step.input('files/hello.c'))")
        + install("step.install('hello', 'usr/bin/hello', mode=0o755)", sh("./hello > /dest/said")),
    )
    entry = build(real_project.graph(), "hello")
    assert (entry.root / "said").read_text() == "hello\n"
    assert (entry.root / "usr/bin/hello").read_bytes()[:4] == b"\x7fELF"
    log = (real_project.root / "output/logs/hello.log").read_text()
    assert log == entry.log.read_text()
    assert [line for line in log.splitlines() if line.startswith("==")] == ["== configure", "== build", "== install"]
    assert "+ gcc -o hello /inputs/files/hello.c" in log


@pytest.mark.sandbox
def test_a_result_is_sealed(real_project: Project) -> None:
    lines = ("step.write('bin/su', '', mode=0o755)", sh("chmod 4700 /dest/bin/su; mkdir -m 700 /dest/own"))
    real_project.recipe("a", phases=install(*lines))
    root = build(real_project.graph(), "a").root
    for path, mode in ((".", 0o555), ("bin", 0o555), ("bin/su", 0o555), ("own", 0o555)):
        info = (root / path).stat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (mode, EPOCH)


@pytest.mark.sandbox
def test_what_a_build_sees(real_project: Project) -> None:
    seen = sh("exec > /dest/seen; id -u; uname -n; pwd; umask; sed 1,2d /proc/net/dev | cut -d: -f1; ls -A /build /src")
    real_project.recipe("a", phases=install(seen, sh("/usr/bin/env > /dest/env")))
    root = build(real_project.graph(), "a").root
    assert (root / "seen").read_text().split() == ["0", "kiln", "/build", "0022", "lo", "/build:", "/src:"]
    env = dict(line.split("=", 1) for line in (root / "env").read_text().splitlines())
    makeflags = env.pop("MAKEFLAGS")
    assert "--jobserver-auth=" in makeflags
    assert env.pop("CCACHE_COMPILERCHECK").startswith("string:")
    assert env == {
        "CCACHE_DIR": "/ccache",
        "CCACHE_MAXSIZE": "5G",
        "HOME": "/tmp",
        "LC_ALL": "C",
        "PATH": "/usr/lib/ccache:/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD": "/build",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "TZ": "UTC",
    } | ({"OLDPWD": env["OLDPWD"]} if "OLDPWD" in env else {})


@pytest.mark.sandbox
@pytest.mark.parametrize("path", ["packages/a/recipe.py", "packages/a/files/undeclared", "output"])
def test_files_that_were_not_declared_are_not_seen(real_project: Project, path: str) -> None:
    real_project.file("packages/a/files/undeclared", "")
    there = real_project.root / path
    real_project.recipe("a", phases=install(DONE, f"step.run('ls', {os.fspath(there)!r})"))
    assert there.exists()
    with pytest.raises(BuildFailed, match="No such file or directory"):
        build(real_project.graph(), "a")


@pytest.mark.sandbox
@pytest.mark.parametrize("place", ["/", "/inputs/", "/sysroot/", "/tools/", "/usr/"])
def test_only_build_and_result_can_be_written(real_project: Project, place: str) -> None:
    real_project.recipe(
        "a", phases=install(DONE, "step.run('touch', '/build/new')", f"step.run('touch', '{place}new')")
    )
    with pytest.raises(BuildFailed, match="Read-only file system"):
        build(real_project.graph(), "a")


@pytest.mark.sandbox
def test_make_takes_tokens_from_the_jobserver(real_project: Project) -> None:
    real_project.file("packages/a/files/Makefile", "all: a b\na b:\n\t@echo $(MAKEFLAGS)\n")
    real_project.recipe("a", phases=install(DONE, "step.make('-f', step.input('files/Makefile'))"))
    graph = real_project.graph()
    log = build(graph, "a").log.read_text()
    assert "--jobserver-auth=" in log
    assert "warning" not in log
    assert graph.jobserver.free() == graph.settings.jobs


JOBS = """\
all: {names}
{names}:
\t@echo $$(date +%s%N) >> $@; sleep 0.1; echo $$(date +%s%N) >> $@
"""


def most_at_once(folders: list[Path]) -> int:
    """The most jobs that ran at one time; each left a file with when it began and ended."""
    events = []
    for folder in folders:
        for file in folder.glob("job*"):
            times = [int(line) for line in file.read_text().split()]
            events += list(zip(times, (1, -1), strict=False))
    running, most = 0, 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.sandbox
def test_all_packages_together_never_run_more_jobs_than_there_are_tokens(real_project: Project) -> None:
    jobs = JOBS.format(names=" ".join(f"job{number}" for number in range(6)))
    makefile = (
        "step.run('cp', step.input('files/Makefile'), '.')",
        "step.make()",
        sh("mkdir /dest/d; cp job* /dest/d"),
    )
    names = ["one", "two", "three", "four", "five"]
    for name in names:
        real_project.file(f"packages/{name}/files/Makefile", jobs)
        broken = ("step.run('false')",) if name == "three" else ()
        real_project.recipe(name, phases=install(*makefile, *broken))
    done = real_project.doit("--continue", *names, env={"KILN_JOBS": "3"})
    assert "FAILED  three:build" in done.stdout
    failed = real_project.store.glob("work/three-*/entry/root/d")
    folders = [*real_project.store.glob("*/root/d"), *failed]
    assert len(folders) == 5
    assert most_at_once(folders) == 3  # neither more, nor fewer for want of tokens that a failure took along


C_FILE = """\
#include <stdio.h>
const char *built(void) { return __FILE__ __DATE__ __TIME__; }
int main(void) { return puts("hello") < 0; }
"""


@pytest.mark.sandbox
def test_the_compilers_cache_saves_compiling_and_changes_no_result(real_project: Project) -> None:
    for name in ("a", "b"):
        real_project.file(f"packages/app/files/{name}.c", C_FILE if name == "a" else "int b;\n")
    compile = (
        "cp /inputs/files/*.c .; for file in a b; do gcc -g -O2 -c $file.c; done; ccache --print-stats; cp *.o /dest"
    )
    inputs = ("step.input('files/a.c')", "step.input('files/b.c')")
    digests, hits = [], []
    for note, env in (("1", {"KILN_CCACHE": "0"}), ("2", {}), ("3", {}), ("4", {"KILN_CCACHE": "1M"})):
        real_project.recipe("app", phases=install(*inputs, sh(f": {note}; {compile}")))
        done = real_project.doit("app", env=env)
        assert done.returncode == 0, done.stdout
        log = (real_project.root / "output/logs/app.log").read_text()
        stats = dict(line.split("\t") for line in log.splitlines() if "\t" in line)
        hits.append(int(stats["direct_cache_hit"]) + int(stats["preprocessed_cache_hit"]))
        digests.append(real_project.graph().result("app").built().digest)
    assert len(set(digests)) == 1
    assert hits == [0, 0, 2, 4]
    cache = real_project.store / "ccache"
    assert cache.is_dir()


@pytest.mark.sandbox
def test_a_failure_says_what_failed_where_and_how_to_go_on(real_project: Project) -> None:
    shout = "for i in $(seq 20); do echo line $i; done; echo it broke >&2; exit 3"
    real_project.recipe("a", phases=phase("configure", sh("echo quiet")) + phase("build", sh(shout)) + install(DONE))
    graph = real_project.graph()
    with pytest.raises(BuildFailed) as caught:
        build(graph, "a")
    log = os.path.relpath(real_project.root / "output/logs/a.log")
    assert str(caught.value).splitlines() == [
        "phase build ended with status 3",
        *(f"  line {number}" for number in range(10, 21)),
        "  it broke",
        f"  log      {log}",
        "  retry    doit shell a",
    ]
    assert "line 1\n" in Path(log).read_text()
    work = graph.result("a").work()
    assert (work.path / "failed").read_text() == "build"
    assert graph.result("a").entry() is None
    assert graph.jobserver.free() == graph.settings.jobs


@pytest.mark.sandbox
def test_after_a_failure_the_mended_recipe_builds(real_project: Project) -> None:
    real_project.recipe("a", phases=install(sh("touch /build/left; exit 1")))
    failed = real_project.doit("a:build")
    assert failed.returncode != 0
    assert "phase install ended with status 1" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    real_project.recipe("a", phases=install(sh("test ! -e /build/left"), DONE))
    assert doit(real_project, "a").result("a").entry()


@pytest.mark.sandbox
def test_an_empty_result_is_a_mistake(real_project: Project) -> None:
    real_project.recipe("a", phases=phase("build", sh("true")))
    with pytest.raises(KilnError, match=r"^a:build: the install phase put nothing into the result"):
        build(real_project.graph(), "a")


@pytest.mark.sandbox
def test_libraries_and_tools_are_seen_where_they_were_declared(real_project: Project) -> None:
    real_project.recipe("base", phases=install("step.write('usr/include/base.h', '#define BASE 1\\n')"))
    real_project.recipe(
        "lib",
        "libs=('base',)",
        phases=install(
            "step.write('usr/include/lib.h', '#include <base.h>\\n')",
            "step.symlink('include', 'usr/inc')",
            "step.folder('usr/lib/empty')",
        ),
    )
    real_project.recipe("tool", phases=install("step.write('bin/tool', '#!/bin/sh\\necho tool\\n', mode=0o755)"))
    seen = sh("cd /sysroot; find . | sort > /dest/seen; cat usr/inc/lib.h > /dest/text; tool >> /dest/text")
    real_project.recipe("app", "libs=('lib',), tools=('tool',)", phases=install(seen))
    real_project.recipe("blind", phases=install(sh("ls -A /sysroot /tools > /dest/seen; ! tool")))
    graph = real_project.graph()
    root = build(graph, "app").root
    assert (root / "seen").read_text().split() == [
        ".",
        "./usr",
        "./usr/inc",
        "./usr/include",
        "./usr/include/base.h",
        "./usr/include/lib.h",
        "./usr/lib",
        "./usr/lib/empty",
    ]
    assert (root / "text").read_text() == "#include <base.h>\ntool\n"
    assert (build(graph, "blind").root / "seen").read_text().split() == ["/sysroot:", "/tools:"]


@pytest.mark.sandbox
def test_two_libraries_with_one_file_are_an_error(real_project: Project) -> None:
    for name in ("one", "two"):
        real_project.recipe(name, phases=install(f"step.write('usr/include/same.h', '{name}')"))
    real_project.recipe("app", "libs=('one', 'two')", phases=install(DONE))
    with pytest.raises(KilnError, match=r"two packages bring usr/include/same.h into one sysroot"):
        build(real_project.graph(), "app")


@pytest.mark.sandbox
def test_a_library_that_stays_the_same_rebuilds_nothing(real_project: Project) -> None:
    real_project.recipe("lib", phases=install("step.write('usr/lib.h', 'one')"))
    real_project.recipe("app", "libs=('lib',)", phases=install("step.run('cp', '/sysroot/usr/lib.h', '/dest/')"))
    before = doit(real_project, "app")
    first = before.result("app").built()

    real_project.recipe("lib", phases=install(sh("true"), "step.write('usr/lib.h', 'one')"))
    after = doit(real_project, "app")
    assert after.result("lib").built().key != before.result("lib").built().key
    assert after.result("app").built() == first

    real_project.recipe("lib", phases=install("step.write('usr/lib.h', 'two')"))
    assert (doit(real_project, "app").result("app").built().root / "lib.h").read_text() == "two"


@pytest.mark.sandbox
def test_a_tool_that_stays_the_same_rebuilds_its_users(real_project: Project) -> None:
    real_project.recipe("tool", phases=install(DONE))
    real_project.recipe("app", "tools=('tool',)", phases=install(DONE))
    before = doit(real_project, "app").result("app").built()
    real_project.recipe("tool", phases=install(sh("true"), DONE))
    after = doit(real_project, "app").result("app").built()
    assert (after.key != before.key, after.digest) == (True, before.digest)


@pytest.mark.sandbox
def test_the_build_stage_follows_from_what_the_configure_stage_left(real_project: Project) -> None:
    fields = 'name="a", version="1", summary="", license="MIT", libc=False, defconfig="", flags=lambda board: ()'
    text = "from kiln import Kconfig\npackage = Kconfig({})\n{}"
    recipes = []
    for configure in (["step.write('config', 'A=y')"], [sh("true"), "step.write('config', 'A=y')"]):
        phases = phase("configure", *configure) + phase("build", "pass")
        phases += install("step.run('cp', '/config/config', '/dest/')")
        recipes.append(text.format(fields, phases))
    built = []
    for recipe in recipes:
        real_project.file("packages/a/recipe.py", recipe)
        stages = doit(real_project, "a").stages("a")
        built.append((stages["configure"].built(), stages["build"].built()))
    assert (built[0][1].root / "config").read_text() == "A=y"
    assert built[0][0].key != built[1][0].key
    assert built[0][1] == built[1][1]


@pytest.mark.sandbox
def test_the_source_can_be_read_and_not_written(real_project: Project) -> None:
    pin = f'Debian("source_1.tar.gz", sha256="{"0" * 64}")'
    real_project.recipe("a", f"source={pin}", phases=install(sh("cat /src/README > /dest/text; ! touch /src/new")))
    graph = real_project.graph()

    def fill(work: Work) -> dict[str, Any]:
        (work.root / "README").write_text("read me")
        return {}

    source = graph.source("a", "1")
    graph.store.build(source.name, source.version, source.inputs(), fill, file_mode=source.file_mode)
    assert (build(graph, "a").root / "text").read_text() == "read me"


@pytest.mark.sandbox
def test_two_folders_give_the_same_result(real_project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "elsewhere/in another/folder", ROOT)
    other.store.mkdir(parents=True)
    for place in real_project.store.glob("tools-*"):
        (other.store / place.name).symlink_to(place.readlink())
    results = []
    for project in (real_project, other):
        project.file("packages/a/files/a.c", "const char *built = __FILE__ __DATE__ __TIME__;\n")
        lines = ("step.run('gcc', '-g', '-c', step.input('files/a.c'))", "step.run('ar', 'rc', '/dest/a.a', 'a.o')")
        project.recipe("a", phases=install(*lines, sh("pwd > /dest/pwd; ln -s a.a /dest/link")))
        results.append(build(project.graph(), "a"))
    assert results[0].path != results[1].path
    assert (results[0].key, results[0].digest) == (results[1].key, results[1].digest)


@pytest.mark.sandbox
def test_lines_of_a_build_that_look_like_ours_are_not_phases(real_project: Project) -> None:
    real_project.recipe("a", phases=install(sh("echo '== unit tests'; exit 1")))
    graph = real_project.graph()
    with pytest.raises(BuildFailed, match="phase install ended with status 1"):
        build(graph, "a")
    assert (graph.result("a").work().path / "failed").read_text() == "install"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "lines",
    [
        ("step.write('etc', '')", "step.write('etc/motd', '')"),
        ("step.folder('etc')", "step.write('etc', '')"),
        ("step.folder('etc')", "step.symlink('x', 'etc')"),
        ("step.write('etc', '')", "step.symlink('x', 'etc/a')"),
    ],
)
def test_a_step_that_fails_fails_the_phase(real_project: Project, lines: tuple[str, ...]) -> None:
    real_project.recipe("a", phases=install(*lines, sh("true")))
    with pytest.raises(BuildFailed, match="phase install"):
        build(real_project.graph(), "a")
