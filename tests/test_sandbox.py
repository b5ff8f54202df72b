import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import sandbox
from kiln.errors import KilnError
from kiln.process import CommandFailed
from kiln.sandbox import MOUNT_POINTS, Mount, Sandbox
from kiln.tools import Tools


@pytest.fixture
def box(tools: Tools) -> Sandbox:
    return tools.sandbox("build")


def sh(box: Sandbox, script: str) -> str:
    return box.run(["sh", "-euc", script]).decode().strip()


@pytest.mark.parametrize(("writable", "option"), [(False, "--ro-bind"), (True, "--bind")])
def test_mounts_are_read_only_unless_asked(writable: bool, option: str) -> None:
    mount = Mount(source=Path("/a"), target="/src", writable=writable)
    words = Sandbox(root=Path("/tree"), launcher=("bwrap",), mounts=(mount,)).argv(["true"])
    assert words[words.index("/src") - 2 :][:3] == [option, "/a", "/src"]


def test_a_sandbox_grows_without_changing_the_one_it_came_from() -> None:
    plain = Sandbox(root=Path("/tree"), launcher=("bwrap",), env={"A": "1"})
    mount = Mount(source=Path("/a"), target="/src")
    more = plain.with_mounts([mount]).with_env({"B": "2"}, cwd="/src")
    assert (more.mounts, more.env, more.cwd) == ((mount,), {"A": "1", "B": "2"}, "/src")
    assert (plain.mounts, plain.env, plain.cwd) == ((), {"A": "1"}, "/")


def test_a_machine_where_it_cannot_start_is_told_with_a_remedy() -> None:
    with pytest.raises(KilnError, match=r"sandbox cannot start|forbidden here") as caught:
        sandbox.require(("false",))
    assert caught.value.hint


def test_without_any_bubblewrap_there_is_no_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(KilnError, match="has no bubblewrap"):
        sandbox.launcher(None)


@pytest.mark.sandbox
def test_bubblewrap_starts_from_the_tools_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tools: Tools, box: Sandbox
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    launcher = tools.launcher()
    assert launcher[0].startswith(os.fspath(tools["sandbox"].built().root))
    assert sh(Sandbox(root=box.root, launcher=launcher), "echo inside") == "inside"


@pytest.mark.sandbox
def test_one_is_root_of_an_empty_world(box: Sandbox) -> None:
    assert sh(box, "id -u; id -g; uname -n; pwd") == "0\n0\nkiln\n/"
    assert sh(box, "cd /; echo $(ls)").split() == sorted(
        {*MOUNT_POINTS, "bin", "etc", "lib", "lib64", "sbin", "usr"} | set(os.listdir(box.root))
    )
    assert sh(box, "ls -A /tmp /build /dest /inputs /src /sysroot /work | grep -v :") == ""


@pytest.mark.sandbox
def test_files_of_the_host_are_not_seen(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(CommandFailed, match="No such file"):
        box.run(["cat", os.fspath(tmp_path / "secret")])


@pytest.mark.sandbox
def test_the_environment_is_the_given_one_and_nothing_of_ours(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    seen = sh(box.with_env({"CC": "gcc", "TZ": "UTC-1"}, cwd="/build"), "/usr/bin/env")
    assert sorted(seen.splitlines()) == [
        "CC=gcc",
        "HOME=/tmp",
        "LC_ALL=C",
        f"PATH={sandbox.PATH}",
        "PWD=/build",
        "TZ=UTC-1",
    ]


@pytest.mark.sandbox
def test_there_is_no_network(box: Sandbox) -> None:
    assert sh(box, "readlink /proc/self/ns/net") != os.readlink("/proc/self/ns/net")
    assert sh(box, "sed 1,2d /proc/net/dev | cut -d: -f1").split() == ["lo"]


@pytest.mark.sandbox
def test_other_processes_are_not_seen(box: Sandbox) -> None:
    assert len(sh(box, "ls -d /proc/[0-9]*").split()) <= 3


@pytest.mark.sandbox
def test_only_writable_mounts_can_be_written(box: Sandbox, tmp_path: Path) -> None:
    for name in ("src", "dest"):
        (tmp_path / name).mkdir()
    mounts = [
        Mount(source=tmp_path / "src", target="/src"),
        Mount(source=tmp_path / "dest", target="/dest", writable=True),
    ]
    inside = box.with_mounts(mounts)
    sh(inside, "echo made > /dest/file; touch /tmp/scratch")
    assert (tmp_path / "dest/file").read_text() == "made\n"
    for place in ("/", "/src/", "/usr/bin/", "/build/"):
        with pytest.raises(CommandFailed, match="Read-only file system"):
            sh(inside, f"touch {place}new")
    assert not list((tmp_path / "src").iterdir())


@pytest.mark.sandbox
def test_input_output_log_and_status_pass_through(box: Sandbox, tmp_path: Path) -> None:
    assert box.run(["cat"], input=b"hello") == b"hello"
    log = tmp_path / "log"
    with pytest.raises(CommandFailed) as caught:
        box.run(["sh", "-c", "echo out; echo err >&2; exit 7"], log=log)
    assert caught.value.status == 7
    assert log.read_text() == "out\nerr\n"


@pytest.mark.sandbox
def test_open_files_pass_only_where_asked(box: Sandbox) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    command = ["bash", "-c", f"echo token >&{write}"]
    box.run(command, pass_fds=[write])
    assert os.read(read, 100) == b"token\n"
    with pytest.raises(CommandFailed, match="Bad file descriptor"):
        box.run(command)
    os.close(read)
    os.close(write)


@pytest.mark.sandbox
def test_what_runs_inside_dies_with_us(box: Sandbox) -> None:
    command = box.argv(["sh", "-c", "echo started; sleep 600; echo survived"])
    code = f"import subprocess; subprocess.run({command!r}, env={{}})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout
        assert python.stdout.readline() == "started\n"
        python.kill()
        # The pipe ends when the last process that holds it is gone.
        assert python.stdout.read() == ""
