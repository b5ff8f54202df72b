"""doit with our tasks: what a user types, and what it answers."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.project import Project


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["imgae"], ["there is no task 'imgae'", "did you mean image"]),
        (["image", "BAORD=x"], ["there is no variable 'BAORD'", "did you mean BOARD?"]),
        (["qemu", "BOOT=dsk"], ["BOOT: cannot boot test by 'dsk'", "did you mean disk?"]),
        (["qemu", "NET=wifi"], ["NET: there is no network 'wifi'", "NET=tap:NAME"]),
        (["qemu", "NET=tap:none7"], ["NET: this machine has no interface 'none7'", "ip tuntap add none7 mode tap"]),
        (["list", "BOARD=tset"], ["BOARD: there is no board 'tset'", "did you mean test?"]),
    ],
)
def test_a_mistyped_word_is_told_with_the_nearest_ones(project: Project, words: list[str], expected: list[str]) -> None:
    command = [word for word in project.command(*words) if word != "BOARD=test" or "BOARD=tset" not in words]
    run = subprocess.run(command, cwd=project.root, env=project.env(), capture_output=True, text=True)
    assert run.returncode == 3
    for text in expected:
        assert text in run.stderr
    assert "Traceback" not in run.stderr + run.stdout


def test_a_mistake_in_a_recipe_is_told_with_its_line(project: Project) -> None:
    project.file("packages/broken/recipe.py", "import kiln\n\nbroken = kiln.Pakage()\n")
    run = project.doit("list")
    assert run.returncode == 3
    assert "packages/broken/recipe.py:3" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_mistake_in_a_board_is_told_with_its_line(project: Project) -> None:
    project.board(packages=[], more="memory = 5\n")
    run = project.doit("list")
    assert run.returncode == 3
    assert "configs/test.toml:4, memory: unknown key 'memory'" in run.stderr


def test_list_shows_packages_images_and_verbs(project: Project) -> None:
    project.recipe("hello")
    names = {line.split()[0] for line in project.doit("list").stdout.splitlines()}
    assert {"hello", "image", "cpio", "disk", "qemu", "test", "doctor", "shell", "tools:lock"} <= names
    assert not any(name.startswith("_") for name in names)


def test_nothing_is_written_but_in_output(project: Project) -> None:
    before = {path for path in project.root.rglob("*") if "output" not in path.parts}
    project.doit("list")
    assert {path for path in project.root.rglob("*") if "output" not in path.parts} == before


SLEEP = """
    @package.install
    def install(step: Step, board: Board) -> None:
        step.run("sh", "-c", "echo started; sleep 300")
        step.write("done", "")
    """


@pytest.mark.sandbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_program_and_leaves_nothing(real_project: Project, number: signal.Signals) -> None:
    real_project.recipe("quick", phases=SLEEP.replace("sleep 300", "true"))
    real_project.recipe("slow", phases=SLEEP)
    process = subprocess.Popen(
        real_project.command("quick", "slow"), cwd=real_project.root, env=real_project.env(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    _wait_for_log(real_project, "slow", "started")
    _wait_for(lambda: any(real_project.store.glob("quick-1-*")))
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in out
    assert "Traceback" not in out
    _wait_for(lambda: not _members(process.pid))
    assert not list(real_project.store.glob("slow-*"))
    real_project.recipe("slow", phases=SLEEP.replace("sleep 300", "true"))
    again = real_project.doit("quick", "slow")
    assert again.returncode == 0
    assert "cached  quick:build" in again.stdout
    assert not list((real_project.store / "work").iterdir())


def _all(project: Project, *words: str) -> list[str]:
    return [*project.command(*words)[:-1], "BOARD=all"]


@pytest.mark.sandbox
def test_all_boards_are_one_command_and_one_of_them_failing_is_its_status(real_project: Project) -> None:
    options = "options={'size': Option(default='small', choices=('small', 'big', 'broken'), doc='')}"
    phases = """
        @package.install
        def install(step: Step, board: Board) -> None:
            step.run("test", step.option("size"), "!=", "broken")
            step.write("size", step.option("size"))
        """
    real_project.recipe("pot", options, phases=phases)
    real_project.board(packages=["pot"], more="options.pot.size = 'broken'", name="a")
    real_project.board(packages=["pot"], more="options.pot.size = 'big'", name="b")
    run = subprocess.run(
        _all(real_project, "pot"), cwd=real_project.root, env=real_project.env(), capture_output=True, text=True
    )
    assert run.returncode == 1
    assert [line for line in run.stdout.splitlines() if line.startswith(("==", "built", "FAILED"))] == [
        "== a", "FAILED  pot:build", "== b", "built   pot:build               0 s",
        "== test", "built   pot:build               0 s",
    ]  # fmt: skip
    sizes = {(path / "root/size").read_text() for path in real_project.store.glob("pot-1-*")}
    assert sizes == {"big", "small"}


@pytest.mark.sandbox
def test_a_signal_ends_the_work_on_all_boards(real_project: Project) -> None:
    real_project.recipe("slow", phases=SLEEP)
    real_project.board(packages=[], name="another")
    process = subprocess.Popen(
        _all(real_project, "slow"), cwd=real_project.root, env=real_project.env(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    _wait_for_log(real_project, "slow", "started")
    process.terminate()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out.count("== ") == 1
    assert "stopped" in out
    _wait_for(lambda: not _members(process.pid))


@pytest.mark.sandbox
def test_kill_leaves_no_program_behind_and_the_next_run_goes_on(real_project: Project) -> None:
    real_project.recipe("slow", phases=SLEEP)
    process = subprocess.Popen(
        real_project.command("slow"), cwd=real_project.root, env=real_project.env(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for_log(real_project, "slow", "started")
    process.kill()
    process.wait()
    _wait_for(lambda: not _members(process.pid))
    real_project.recipe("slow", phases=SLEEP.replace("sleep 300", "true"))
    assert real_project.doit("slow").returncode == 0
    assert not list((real_project.store / "work").iterdir())


@pytest.mark.sandbox
def test_a_failure_tells_where_and_how_to_go_on(real_project: Project) -> None:
    real_project.recipe(
        "broken",
        phases="""
        @package.build
        def build(step: Step, board: Board) -> None:
            step.run("sh", "-c", "echo made > half; echo clay cracked >&2; exit 7")
        """,
    )
    run = real_project.doit("broken")
    assert run.returncode == 1
    for text in ("FAILED  broken:build", "phase build ended with status 7", "clay cracked", "doit shell broken"):
        assert text in run.stdout
    assert not list(real_project.store.glob("broken-1-*"))
    shell = subprocess.run(
        real_project.command("shell", "broken"), cwd=real_project.root, env=real_project.env(),
        input="cat half; pwd; exit\n", capture_output=True, text=True,
    )  # fmt: skip
    assert "made\n/build\n" in shell.stdout
    assert "failed in phase build" in shell.stdout


@pytest.mark.sandbox
def test_clean_removes_what_was_built(real_project: Project) -> None:
    real_project.recipe("quick", phases=SLEEP.replace("sleep 300", "true"))
    assert "built   quick:build" in real_project.doit("quick").stdout
    assert "cached  quick:build" in real_project.doit("quick").stdout
    assert "removed quick:build" in real_project.doit("clean", "quick").stdout
    assert "built   quick:build" in real_project.doit("quick").stdout


@pytest.mark.sandbox
def test_info_says_why(real_project: Project) -> None:
    real_project.recipe("quick", phases=SLEEP.replace("sleep 300", "true"))
    assert "was never built" in real_project.doit("info", "quick:build").stdout
    real_project.doit("quick")
    assert "up to date, made in 0 s" in real_project.doit("info", "quick:build").stdout
    real_project.recipe("quick", phases=SLEEP.replace("sleep 300", "echo other"))
    assert "phases.install[0]: " in real_project.doit("info", "quick:build").stdout


def _wait_for_log(project: Project, package: str, word: str) -> None:
    def there() -> bool:
        return any(word in log.read_text().split() for log in project.store.glob(f"work/{package}-*/entry/log"))

    _wait_for(there)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _members(group: int) -> list[int]:
    """The processes of a session that are still there."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(int(name))
    return found
