"""What a run shows, on a terminal and elsewhere."""

import io
import os
import re
import sys

import pexpect
import pytest
from doit.task import Task
from tqdm import tqdm

from kiln.report.progress import Progress, duration
from kiln.tasks import Action
from tests.project import Project

TALKS = """
    @package.install
    def install(step: Step, board: Board) -> None:
        step.run("sh", "-c", "for i in 1 2 3 4; do echo turning the wheel $i; sleep 0.4; done")
        step.write("done", "")
    """


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (41, "41 s"), (60, "1:00"), (151.4, "2:31")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_task_that_has_the_terminal_has_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    tasks = {name: Task(name, [Action(print, interactive=name == "qemu")]) for name in ("cpio", "qemu")}
    progress = Progress(Terminal(), {})
    progress.initialize(tasks, ["cpio", "qemu"])
    progress.execute_task(tasks["cpio"])
    progress.add_success(tasks["cpio"])
    assert "[0/2]" in terminal.getvalue()
    progress.execute_task(tasks["qemu"])
    assert not tqdm._instances  # type: ignore[attr-defined]
    said = terminal.getvalue()
    progress.add_success(tasks["qemu"])
    progress.complete_run()
    assert terminal.getvalue() == said


@pytest.mark.sandbox
def test_a_terminal_shows_the_running_step_and_its_last_line(real_project: Project) -> None:
    real_project.recipe("pot", phases=TALKS)
    child = pexpect.spawn(
        sys.executable,
        real_project.command("pot")[1:],
        cwd=os.fspath(real_project.root),
        env=real_project.env({"TERM": "xterm"}),
        encoding="utf-8",
        timeout=120,
        dimensions=(24, 100),
    )
    child.expect(r"\[\d+/\d+\] pot:build \d+ s   turning the wheel \d")
    child.expect("built   pot:build")
    child.expect(pexpect.EOF)


@pytest.mark.sandbox
def test_elsewhere_there_are_plain_lines(real_project: Project) -> None:
    real_project.recipe("pot", phases=TALKS)
    run = real_project.doit("pot")
    assert re.fullmatch(r"start   pot:build\nbuilt   pot:build +\d+ s\n", run.stdout)
    assert run.stderr == ""
