"""The loop of who edits a file of the image, on a terminal of its own."""

import os
import shutil
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parent.parent
INIT = ROOT / "packages/init/files/init"
SECONDS = 120

pytestmark = pytest.mark.boot

Spawn = pexpect.spawn


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(INIT, tmp_path / "my-init"))


@pytest.fixture
def child(script: Path, tmp_path: Path) -> Iterator["Spawn[str]"]:
    words = ["-m", "doit", "dev-init", f"FILE={script}", "PLACE=/init"]
    with (tmp_path / "log").open("w") as log:
        child = pexpect.spawn(
            sys.executable,
            words,
            cwd=os.fspath(ROOT),
            encoding="utf-8",
            codec_errors="replace",
            timeout=900,
            logfile=log,
        )
        child.expect("each save of .* boots")
        child.timeout = SECONDS
        yield child
        child.close(force=True)


def save(script: Path, line: str) -> None:
    text = INIT.read_text()
    script.write_text(text.replace("\n", f"\n{line}\n", 1))


def test_each_save_boots(child: "Spawn[str]", script: Path) -> None:
    child.expect(r"== \d\d:\d\d:\d\d  /init is .*my-init, \d{3,4} bytes more")
    child.expect("Run /init as init process")
    for number in (1, 2):
        save(script, f"echo this is save $(({number} + 10))")
        child.expect("Linux version")
        child.expect(f"this is save {number + 10}")
    save(script, "if then")
    child.expect(r"my-init is not booted:\s+line 2: syntax error")
    save(script, "echo the end of it; poweroff -f")
    child.expect("the machine has ended")
    child.sendintr()
    child.expect("stopped")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_the_terminal_is_given_back(child: "Spawn[str]") -> None:
    def lines_are_edited() -> bool:
        return bool(termios.tcgetattr(child.child_fd)[3] & termios.ICANON)

    child.expect("Run /init as init process")
    assert not lines_are_edited()
    child.kill(15)
    child.expect(pexpect.EOF)
    assert lines_are_edited()
    child.close()
    assert child.exitstatus == 130


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    words = ["-m", "doit", "dev-init", f"FILE={tmp_path}/nothing"]
    child = pexpect.spawn(sys.executable, words, cwd=os.fspath(ROOT), encoding="utf-8", timeout=900)
    child.expect(r"there is no file .*/nothing\s+doit dev-init \[FILE=")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus != 0
