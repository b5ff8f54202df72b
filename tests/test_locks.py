import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kiln import process
from kiln.locks import attempt, claim, closing, take

HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("mine", flush=True)
input()
"""

CLAIM = """
import sys
from pathlib import Path
from kiln.locks import claim
print(claim(Path(sys.argv[1]), wait=True))
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that has the lock until it is told or killed."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout
    assert other.stdout.readline() == "mine\n"
    return other


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        assert claim(tmp_path, wait=False) is None
        other.kill()
    file = claim(tmp_path, wait=False)
    assert file is not None
    os.close(file)


def test_who_waits_says_for_what_and_gets_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = os.open(tmp_path, os.O_RDONLY)
    with closing(file), holder(tmp_path) as other:
        assert not attempt(file, fcntl.LOCK_SH)
        assert other.stdin
        other.stdin.write("\n")
        other.stdin.flush()
        take(file, fcntl.LOCK_EX, f"{tmp_path}")
    assert capsys.readouterr().err in ("", f"waiting  for {tmp_path}\n")


def test_who_waits_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holder(tmp_path) as other:
        monkeypatch.setattr(process, "_stopping", True)
        with pytest.raises(KeyboardInterrupt):
            claim(tmp_path, wait=True)
        other.kill()


def test_a_folder_that_went_meanwhile_is_not_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert claim(folder, wait=True) is None
    folder.mkdir()
    with holder(folder) as other:
        words = [sys.executable, "-c", CLAIM, os.fspath(folder)]
        waits = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert waits.stderr
        assert waits.stderr.readline() == "waiting  for folder, which another process builds\n"
        folder.rename(tmp_path / "published")
        other.kill()
        assert waits.communicate()[0] == "None\n"


def test_files_are_unlocked_when_they_are_closed(tmp_path: Path) -> None:
    for _ in range(2):
        file = claim(tmp_path, wait=False)
        assert file is not None
        with closing(file):
            time.sleep(0)
