import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.vm.console import Transcript, record


def shell(
    script: str, log: Path, *, timeout: float = 60.0, silence: float = 60.0, answers: Mapping[str, str] = {}
) -> Transcript:
    return record(["sh", "-c", script], log, timeout=timeout, silence=silence, answers=answers)


def texts(transcript: Transcript) -> list[str]:
    return [text for _, text in transcript.lines]


def assert_gone(pid: str) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_every_line_is_stamped_and_logged(tmp_path: Path) -> None:
    log = tmp_path / "boot/serial.log"
    transcript = shell("echo one; echo; echo two >&2; exit 3", log)
    assert (transcript.ended, transcript.status) == ("exit", 3)
    assert texts(transcript) == ["one", "", "two"]
    stamps = [stamp for stamp, _ in transcript.lines]
    assert 0 < stamps[0] <= stamps[1] <= stamps[2] <= transcript.seconds
    assert log.read_text() == "".join(f"[{stamp:9.3f}] {text}\n" for stamp, text in transcript.lines)


def test_a_line_has_the_time_of_its_first_byte(tmp_path: Path) -> None:
    transcript = shell("printf 'slow '; sleep 0.5; echo line; echo next", tmp_path / "log")
    (slow, _), (following, _) = transcript.lines
    assert texts(transcript) == ["slow line", "next"]
    assert following - slow >= 0.2


def test_a_prompt_without_its_end_is_kept(tmp_path: Path) -> None:
    transcript = shell(r"printf 'welcome\nlogin: '; exec sleep 60", tmp_path / "log", silence=2)
    assert transcript.ended == "silent"
    assert texts(transcript) == ["welcome", "login: "]
    assert (tmp_path / "log").read_text().endswith("] login: \n")


def test_what_it_asks_is_answered_each_time(tmp_path: Path) -> None:
    ask = r"printf 'Password (disk): '; read -r word; echo; echo got $word; "
    script = "echo Password, as a line; " + ask + ask
    transcript = shell(script, tmp_path / "log", answers={"Password": "pottery"})
    assert texts(transcript) == ["Password, as a line"] + 2 * ["Password (disk): ", "got pottery"]
    ended = shell("printf 'Password: '; exec <&-; sleep 0.2", tmp_path / "log", answers={"Password": "pottery"})
    assert (ended.ended, ended.status) == ("exit", 0)


def test_what_talks_for_ever_is_ended(tmp_path: Path) -> None:
    transcript = shell("echo $$; while :; do echo again; sleep 0.05; done", tmp_path / "log", timeout=2)
    assert (transcript.ended, transcript.status) == ("timeout", None)
    assert "again" in texts(transcript)
    assert_gone(texts(transcript)[0])


def test_what_says_nothing_is_ended(tmp_path: Path) -> None:
    transcript = shell("echo $$; exec sleep 60", tmp_path / "log", silence=2)
    assert (transcript.ended, transcript.status) == ("silent", None)
    assert_gone(texts(transcript)[0])


def test_what_closes_its_output_and_stays_is_ended(tmp_path: Path) -> None:
    transcript = shell("echo $$; exec sleep 60 >/dev/null 2>&1", tmp_path / "log", timeout=2)
    assert (transcript.ended, transcript.status) == ("timeout", None)
    assert_gone(texts(transcript)[0])


def test_a_signal_is_a_status(tmp_path: Path) -> None:
    transcript = shell("echo here; kill -KILL $$", tmp_path / "log")
    assert (transcript.ended, transcript.status, texts(transcript)) == ("exit", -9, ["here"])


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (r"\033c\033[?7l\033[2J\033[0mSeaBIOS\r\n", "SeaBIOS"),
        (r"\033]0;a title\007\033[1;31mred\033[m\n", "red"),
        (r"/ # \033[6n\n", "/ # "),
        (r"a\tb\0\010c\n", "a\tbc"),
        (r"\377 and \303\244\n", "\ufffd and ä"),
    ],
)
def test_escapes_and_broken_bytes_do_not_reach_the_log(tmp_path: Path, printed: str, text: str) -> None:
    transcript = shell(f"printf '{printed}'", tmp_path / "log")
    assert texts(transcript) == [text]


def test_an_escape_may_come_in_two_pieces(tmp_path: Path) -> None:
    transcript = shell(r"printf 'a\033['; sleep 0.1; printf '1mb\n'", tmp_path / "log")
    assert texts(transcript) == ["ab"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="cannot start /nowhere/qemu"):
        record(["/nowhere/qemu"], tmp_path / "log", timeout=1, silence=1)
