import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.jobs import Jobserver

TOKENS = 3

# Each recipe says when it starts and ends, in lines that are written at once; one holds until it is let go.
MAKEFILE = """\
all: $(addprefix step-,$(shell seq 12))
step-%:
\t@echo + >> $(LOG); sleep 0.01; echo - >> $(LOG)
fail: step-1 step-2 broken step-3
broken:
\t@false
hang: $(addprefix hold-,$(shell seq 3))
hold-%:
\t@echo held; exec sleep 600
"""


@pytest.fixture
def jobserver() -> Jobserver:
    return Jobserver(TOKENS)


@pytest.fixture
def start(tmp_path: Path, jobserver: Jobserver) -> "Callable[..., subprocess.Popen[str]]":
    """Starts a real make as a client."""
    (tmp_path / "Makefile").write_text(MAKEFILE)

    def _start(goal: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["make", goal, f"LOG={tmp_path / 'log'}"],
            cwd=tmp_path,
            env=os.environ | {"MAKEFLAGS": jobserver.makeflags},
            pass_fds=jobserver.fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return _start


def test_all_clients_together_run_as_many_recipes_as_there_are_tokens(
    tmp_path: Path, jobserver: Jobserver, start: "Callable[..., subprocess.Popen[str]]"
) -> None:
    with jobserver.slot(), jobserver.slot(), start("all") as first, start("all") as second:
        outputs = first.communicate()[0] + second.communicate()[0]
    running, most = 0, 0
    marks = (tmp_path / "log").read_text().split()
    for mark in marks:
        running += 1 if mark == "+" else -1
        most = max(most, running)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "warning" not in outputs
    assert marks.count("+") == marks.count("-") == 24
    assert most <= TOKENS
    assert jobserver.free() == TOKENS


def test_tokens_come_back_from_a_make_that_fails(
    jobserver: Jobserver, start: "Callable[..., subprocess.Popen[str]]"
) -> None:
    with jobserver.slot(), start("fail") as make:
        assert "Error 1" in make.communicate()[0]
        assert make.returncode == 2
    assert jobserver.free() == TOKENS


def test_tokens_come_back_from_a_make_that_is_killed(
    jobserver: Jobserver, start: "Callable[..., subprocess.Popen[str]]"
) -> None:
    with jobserver.slot(), start("hang") as make:
        assert make.stdout
        assert [make.stdout.readline() for _ in range(TOKENS)] == ["held\n"] * TOKENS
        assert jobserver.free() == 0
        os.killpg(make.pid, signal.SIGKILL)
    assert jobserver.free() == TOKENS


def test_a_slot_is_a_token(jobserver: Jobserver) -> None:
    with jobserver.slot(), jobserver.slot():
        assert jobserver.free() == TOKENS - 2
    with pytest.raises(KeyError), jobserver.slot():
        raise KeyError
    assert jobserver.free() == TOKENS


def test_a_slot_waits_though_make_has_made_the_pipe_non_blocking() -> None:
    jobserver = Jobserver(1)
    got = threading.Event()

    def wait() -> None:
        with jobserver.slot():
            got.set()

    waiter = threading.Thread(target=wait)
    with jobserver.slot():
        subprocess.run(
            ["make", "-f", "-", "all"],
            input="all: a b\na b:\n\t@true\n",
            env=os.environ | {"MAKEFLAGS": jobserver.makeflags},
            pass_fds=jobserver.fds,
            check=True,
            text=True,
        )
        waiter.start()
        assert not got.wait(0.2)
    waiter.join(10)
    assert got.is_set()
    assert jobserver.free() == 1
