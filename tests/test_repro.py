"""Each test really builds twice, the second time by another kiln elsewhere."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.repro import repro
from kiln.target import closure
from tests.project import Project

ROOT = Path(__file__).parent.parent

# Tells the other build from the first, for what should differ by more than a date.
ELSEWHERE = '[ "${LD_PRELOAD-}" ]'


def written(project: Project, scripts: dict[str, str], **fields: str) -> Graph:
    """Packages whose install phase is a shell script; ``fields`` are further ones of theirs."""
    for name, script in scripts.items():
        install = f'step.run("sh", "-euc", {script!r})'
        phases = f"@package.install\ndef install(step: Step, board: Board) -> None:\n    {install}\n"
        project.recipe(name, *filter(None, [fields.get(name)]), phases=phases)
    project.board(packages=[name for name in scripts if name != "linux"])
    return project.graph()


def built(project: Project, scripts: dict[str, str], **fields: str) -> Graph:
    graph = written(project, scripts, **fields)
    for target in closure(*(graph.result(name) for name in scripts)):
        target.build()
    return graph


def kept(project: Project) -> Iterator[Path]:
    return (project.store / "work").glob("repro-*")


@pytest.mark.sandbox
def test_what_follows_from_its_inputs_is_the_same(real_project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "umask; id; uname -n; pwd; echo $HOME $TZ $LC_ALL; perl -e 'print scalar localtime 0';"
        "find /src /inputs /sysroot /tools | sort"
    )
    repro(built(real_project, {"fine": f"({script}) > /dest/file"}), ["fine"])
    out = capfd.readouterr().out
    assert "built   fine:build" in out
    assert out.splitlines()[-2].split()[:2] == ["same", "fine:build"]
    assert out.endswith("1 of 1 results are the same\n")
    assert not list(kept(real_project))


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("script", "path", "words"),
    [
        ("mkdir /dest/etc; date > /dest/etc/date", "etc/date", "bytes here"),
        ("perl -e 'print time' > /dest/time", "time", "from offset"),
        ("python3 -c 'import time; print(time.localtime())' > /dest/time", "time", "from offset"),
        ("bash -c 'printf \"%(%s)T\" -1' > /dest/time", "time", "from offset"),
        ("echo $MAKEFLAGS > /dest/jobs", "jobs", "from offset 2 (0x2)"),
        pytest.param(
            "nproc > /dest/nproc", "nproc", "from offset",
            marks=pytest.mark.skipif(len(os.sched_getaffinity(0)) <= 2, reason="there are no processors to spare"),
        ),
        (f"echo same > /dest/a; ! {ELSEWHERE} || echo b > /dest/b", "b", "only elsewhere"),
        (f"echo same > /dest/a; {ELSEWHERE} || echo b > /dest/b", "b", "only here"),
        (f"echo > /dest/a; {ELSEWHERE} || chmod +x /dest/a", "a", "executable here"),
        (f"echo > /dest/a; ! {ELSEWHERE} || chmod +x /dest/a", "a", "not executable here"),
        (f"ln -s x /dest/a; ! {ELSEWHERE} || ln -sfn y /dest/a", "a", "a link to x here, a link to y elsewhere"),
        (f"{ELSEWHERE} || mkdir /dest/a; [ -e /dest/a ] || echo > /dest/a", "a", "a folder here, a file elsewhere"),
        (f"(head -c 3000000 /dev/zero; {ELSEWHERE} || echo) > /dest/a", "a", "from offset 3000000 (0x2dc6c0)"),
    ],
)  # fmt: skip
def test_what_differs_is_told_by_package_and_path(
    real_project: Project, capfd: pytest.CaptureFixture[str], script: str, path: str, words: str
) -> None:
    graph = built(real_project, {"fine": "echo fine > /dest/file", "bad": script})
    with pytest.raises(KilnError, match="1 of 2 results differ") as caught:
        repro(graph, ["fine", "bad"])
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["DIFFERS", "bad:build", path] in lines
    assert [line[:2] for line in lines if line[:1] == ["same"]] == [["same", "fine:build"]]
    details = next(" ".join(line) for line in lines if line[:2] == ["bad:build:", f"{path}:"])
    assert words in details
    assert str(next(kept(real_project))) in str(caught.value)


@pytest.mark.sandbox
def test_the_clock_leaves_the_times_of_files_alone(real_project: Project) -> None:
    newer = "echo > later; test ! now -nt later"
    script = (
        f"touch now; {newer}; perl -e 'utime(undef, undef, q(now))'; {newer};"
        f"python3 -c 'import os; os.utime(\"now\")'; {newer};"
        "touch -d 2020-01-01 old; cp -p old copy; stat -c %Y old copy > /dest/times;"
        "printf 'b: a\n\ttouch b\na:\n\techo > a\n' > Makefile; make; make >> /dest/times 2>&1"
    )
    repro(built(real_project, {"files": script}), ["files"])


@pytest.mark.sandbox
def test_what_others_need_is_lent(real_project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    scripts = {"lib": "date > /dest/date", "app": "cp /sysroot/date /dest/copy"}
    repro(built(real_project, scripts, app='libs=("lib",)'), ["app"])
    out = capfd.readouterr().out
    assert "app:build" in out
    assert "built   lib:build" not in out
    assert "same     lib" not in out


@pytest.mark.sandbox
def test_without_names_all_that_the_image_is_made_of_is_compared(
    real_project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    real_project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    scripts = {"linux": "mkdir /dest/boot; echo kernel > /dest/boot/bzImage", "app": "echo app > /dest/app"}
    graph = written(real_project, scripts | {"unused": "date > /dest/date"})
    real_project.board(packages=["app"])
    graph = real_project.graph()
    for target in closure(graph.image, graph.media["squashfs"]):
        target.build()
    repro(graph, [])
    same = [line.split()[1] for line in capfd.readouterr().out.splitlines() if line.startswith("same")]
    made = {"cpio", "tar", "ext4", "disk", "squashfs", "image"}
    assert set(same) == {"app:build", "linux:build", "rootfs", "licenses"} | made


@pytest.mark.sandbox
def test_what_fails_elsewhere_is_kept(real_project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    graph = built(real_project, {"shy": f"echo > /dest/a; ! {ELSEWHERE}"})
    for _ in range(2):  # the next one takes the place of what was kept
        with pytest.raises(KilnError, match="could not be built elsewhere"):
            repro(graph, ["shy"])
    assert "FAILED  shy:build" in capfd.readouterr().out
    assert list(kept(real_project))


@pytest.mark.sandbox
def test_an_interrupted_comparison_leaves_nothing_behind(real_project: Project) -> None:
    built(real_project, {"slow": f"echo > /dest/a; ! {ELSEWHERE} || sleep 1000"})
    program = (
        "import signal, pathlib; from kiln import commands, graph, repro, settings;"
        "signal.signal(signal.SIGINT, commands._stop);"
        "board = graph.Graph.load(settings.Settings.read(pathlib.Path.cwd(), {}), 'test');"
        "repro.repro(board, ['slow'])"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=real_project.root, env=real_project.env(),
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    while process.poll() is None and not list(real_project.store.glob("work/repro-*/*/*/output/store/work/slow-*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not list(kept(real_project))
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if bytes(real_project.root) in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fime"], "there is no package or target 'fime'\n  did you mean fine"),
        (["fine"], "fine:build was not built yet\n  doit fine:build"),
        ([], "was not built yet\n  doit image"),
    ],
)
def test_what_cannot_be_compared_is_told_with_the_remedy(project: Project, names: list[str], message: str) -> None:
    project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    graph = written(project, {"fine": "echo > /dest/a"})
    with pytest.raises(KilnError) as caught:
        repro(graph, names)
    assert message in str(caught.value)
