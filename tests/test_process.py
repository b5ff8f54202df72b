import subprocess
import sys
from pathlib import Path

import pytest

from kiln import process
from kiln.errors import KilnError
from kiln.process import CommandFailed


def test_standard_output_comes_back() -> None:
    assert process.run(["cat"], input=b"hello") == b"hello"
    assert process.run(["cat"]) == b""


def test_the_environment_is_the_given_one() -> None:
    assert process.run(["/usr/bin/env"], env={"A": "b"}) == b"A=b\n"


def test_both_streams_go_to_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert process.run(["sh", "-c", "echo out; echo err >&2"], log=log) == b""
    assert log.read_text() == "before\nout\nerr\n"


def test_a_failure_has_the_status_and_the_last_lines_of_the_error_stream() -> None:
    with pytest.raises(CommandFailed) as caught:
        process.run(["/bin/sh", "-c", "echo no; for i in 1 2 3 4; do echo line $i >&2; done; exit 7"])
    assert caught.value.status == 7
    assert str(caught.value) == "sh ended with status 7: line 2 / line 3 / line 4"


def test_a_failure_by_a_signal_names_it() -> None:
    with pytest.raises(CommandFailed, match=r"^sh was ended by signal 15$"):
        process.run(["sh", "-c", "kill $$"])


def test_a_failure_that_was_logged_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"^sh ended with status 1$"):
        process.run(["sh", "-c", "echo err >&2; exit 1"], log=tmp_path / "log")


@pytest.mark.parametrize(("mode", "reason"), [(None, "No such file or directory"), (0o644, "Permission denied")])
def test_a_program_that_cannot_be_started(tmp_path: Path, mode: int | None, reason: str) -> None:
    program = tmp_path / "program"
    if mode:
        program.touch(mode)
    with pytest.raises(KilnError, match=f"cannot start {program}: {reason}"):
        process.run([program])


STOPPED = """
import threading
from kiln import process

def sleep():
    try:
        process.run(["sh", "-c", "echo started; exec sleep 600"], interactive=True)
    except KeyboardInterrupt:
        print("ended", flush=True)

sleeper = threading.Thread(target=sleep)
sleeper.start()
input()
process.stop_all()
sleeper.join()
try:
    process.run(["echo", "one more"], interactive=True)
except KeyboardInterrupt:
    print("no more")
"""


def test_stopping_ends_what_runs_and_starts_no_more() -> None:
    command = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as python:
        assert python.stdin
        assert python.stdout
        assert python.stdout.readline() == "started\n"
        out, _ = python.communicate("\n")
    assert out == "ended\nno more\n"
