"""The report of boots, on a terminal and as a picture, and which logs the user's words mean."""

import os
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.report import timeline
from kiln.report.phases import course
from kiln.report.timeline import Row
from kiln.verbs.boot_report import boot_report
from kiln.vm.diagnose import read
from tests.project import Project

LOGS = Path(__file__).parent / "fixtures/boot"
_SVG = "{http://www.w3.org/2000/svg}"


def row(road: str, against: Row | None = None, name: str = "") -> Row:
    return Row(name=name or road, course=course(read((LOGS / f"{road}.log").read_text())), against=against)


def render(*rows: Row) -> str:
    return "\n".join(timeline.render(rows))


def test_one_boot_is_told_in_detail() -> None:
    text = render(row("cpio"))
    seconds = {name: float(found) for name, found in re.findall(r"(?m)^  (\w+) +([\d.]+) s +\d+%", text)}
    assert list(seconds) == ["firmware", "kernel", "userspace"]
    total = re.match(r"cpio: ([\d.]+) s\n", text)
    assert total and sum(seconds.values()) == pytest.approx(float(total[1]), abs=0.02)
    assert "unpacking the initramfs took" in text
    assert re.search(r"(?m)^ +[\d.]+ s  after   .*\n +before  .*uptime=", text)


def test_the_bars_of_one_boot_follow_each_other() -> None:
    bars = [re.split(r"% {2}", line)[1] for line in render(row("label")).splitlines() if "%" in line]
    assert len(bars) == 4
    for before, after in pairwise(bars):
        assert len(after) - len(after.lstrip()) >= len(before) - 1


def test_several_boots_are_compared_phase_by_phase() -> None:
    first = row("cpio")
    other = row("label", against=first)
    lines = render(first, other).splitlines()
    assert lines[0].split() == ["firmware", "kernel", "initramfs", "userspace", "total"]
    assert lines[1].split()[:6] == [
        "cpio", *(f"{first.course.seconds(name):.2f}" for name in ("firmware", "kernel")), "-",
        f"{first.course.seconds('userspace'):.2f}", f"{first.course.end:.2f}",
    ]  # fmt: skip
    # No difference where one of them has no such phase.
    changes = [
        *(other.course.phases[place].seconds - first.course.phases[place].seconds for place in (0, 1)),
        other.course.phases[3].seconds - first.course.phases[2].seconds,
        other.course.end - first.course.end,
    ]
    assert lines[3].split() == [*(f"{change:+.2f}" for change in changes), "to", "cpio"]


def test_a_quiet_kernel_is_marked_and_compared_with_nothing() -> None:
    first = row("cpio")
    text = render(first, row("disk", against=first))
    kernel = course(read((LOGS / "disk.log").read_text())).seconds("kernel")
    assert f"{kernel:.2f}*" in text
    assert text.splitlines()[3].split()[2:] == ["to", "cpio"]
    assert "* with all that came after it" in text


def test_a_boot_that_stopped_is_told_as_such() -> None:
    kept = (LOGS / "cpio.log").read_text().partition("Freeing unused")[0]
    text = render(Row(name="cut", course=course(read(kept))))
    assert "! cut did not come to its end; it stopped in its kernel: " in text


def picture(*rows: Row, title: str = "time to boot") -> ElementTree.Element:
    return ElementTree.fromstring(timeline.svg(title, rows))


def test_the_picture_has_a_bar_for_each_phase_as_long_as_it_took() -> None:
    rows = [row("cpio"), row("label")]
    bars = [rect for rect in picture(*rows).iter(f"{_SVG}rect") if rect.get("height") == "22"]
    phases = [phase for one in rows for phase in one.course.phases]
    assert len(bars) == len(phases) == 7
    scale = float(bars[0].get("width", "")) / phases[0].seconds
    for bar, phase in zip(bars, phases, strict=True):
        assert float(bar.get("width", "")) == pytest.approx(phase.seconds * scale, rel=0.02, abs=0.1)
        told = bar.find(f"{_SVG}title")
        assert told is not None and told.text and told.text.startswith(f"{phase.name}: ")


def test_the_picture_knows_light_and_dark_and_needs_no_other_file() -> None:
    text = timeline.svg("time to boot", [row("cpio")])
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|url\(|@import|<script", text)


def test_what_a_log_says_is_obeyed_neither_by_a_terminal_nor_by_a_browser() -> None:
    evil = '<script>alert("x")</script>&\x1b[2J\x07\u202e'
    log = f"[    0.100] Linux version 6.1\n[    0.200] {evil}\n[    9.000] {evil} login: \n"
    hostile = Row(name=evil, course=course(read(log)))
    text = render(hostile)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b[2J" in text
    tree = picture(hostile, title=evil)
    assert {element.tag for element in tree.iter()} == {
        _SVG + name for name in ("svg", "style", "title", "text", "rect", "line")
    }
    assert any('<script>alert("x")</script>' in (element.text or "") for element in tree.iter(f"{_SVG}text"))


@pytest.fixture
def booted(project: Project) -> Project:
    for road in ("cpio", "disk", "label"):
        project.file(f"output/test/boot/{road}.log", (LOGS / f"{road}.log").read_text())
    return project


def report(project: Project, *places: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    boot_report(project.graph(), *places, compressors=False)


def told(out: str) -> list[str]:
    """The boots of a table."""
    return re.findall(r"(?m)^(\S+) +[\d-][\d.]* .*\d", out)


def test_without_a_word_all_roads_of_the_board_are_told(
    booted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(booted, monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert told(out) == ["cpio", "disk", "label"]
    assert out.splitlines()[-1] == "output/test/boot-report.svg"
    ElementTree.parse(booted.root / "output/test/boot-report.svg")


def test_roads_boards_folders_and_files_can_be_named(
    booted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    booted.board(packages=[], name="other")
    booted.file("output/other/boot/cpio.log", (LOGS / "ext4.log").read_text())
    booted.file("elsewhere/label.log", (LOGS / "label.log").read_text())
    report(booted, "cpio", "other", "elsewhere", "elsewhere/label.log", monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert told(out) == ["cpio", "other/cpio", "elsewhere/label", "elsewhere/label.log"]
    # What came by the same road is what is worth comparing.
    assert re.findall(r"  to (\S+)$", out, re.M) == ["cpio"]


def test_a_board_that_was_not_booted_is_told_what_to_do(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KilnError, match="no log of a boot of test") as caught:
        report(project, monkeypatch=monkeypatch)
    assert "doit test" in str(caught.value)
    with pytest.raises(KilnError, match="test by ext4") as caught:
        report(project, "ext4", monkeypatch=monkeypatch)
    assert "doit test:ext4" in str(caught.value)


def test_a_place_that_is_none_is_told_with_the_nearest(booted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KilnError, match="there is no road, board or log 'cpoi'") as caught:
        report(booted, "cpoi", monkeypatch=monkeypatch)
    assert "did you mean cpio?" in str(caught.value)


def test_a_log_that_says_nothing_is_left_out_of_many_and_refused_alone(
    booted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = booted.file("output/test/boot/ext4.log", "")
    report(booted, monkeypatch=monkeypatch)
    found = capsys.readouterr()
    assert told(found.out) == ["cpio", "disk", "label"]
    assert "output/test/boot/ext4.log is left out: its lines have no times" in found.err
    with pytest.raises(KilnError, match="no times"):
        report(booted, os.fspath(empty), monkeypatch=monkeypatch)
