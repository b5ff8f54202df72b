"""docs/exercises, followed to the letter: files are written, commands run, consoles typed at, and outputs compared.

A page's block is a file where the text before it ends with the file's path in backquotes and a colon. In a block of
``console``, what follows ``$`` is run, and what follows a prompt of the machine is typed there. The lines between must
come out, in their order; numbers and bars may differ, and so may how far apart columns are.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

from tests.test_boot import OWN, copy_to

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/exercises").glob("[1-9]-*.md"))
BLOCK = re.compile(r"(?:`(?P<file>[\w./-]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
# The prompts of the machine: of its shell, and of the initramfs.
PROMPT = re.compile(r"(?P<prompt>[\w-]+:\S*# )(?P<typed>.*)")
NUMBER = r"\d[\d.,:]*"
BARS = "[░▒▓▚█]+"
PATIENCE = 120

pytestmark = pytest.mark.boot


@dataclass(frozen=True, kw_only=True)
class Command:
    words: str
    lines: list[str]


def blocks(page: Path) -> Iterator[re.Match[str]]:
    yield from BLOCK.finditer(page.read_text())


def commands(text: str) -> list[Command]:
    parts = re.split(r"(?m)^\$ ", text)
    assert not parts[0].strip(), f"what comes before the first command? {parts[0]}"
    return [
        Command(words=words, lines=rest.splitlines()) for words, _, rest in (part.partition("\n") for part in parts[1:])
    ]


def pattern(line: str) -> str:
    """What a line of a page looks like, with any numbers and any blanks between its words.

    Where a page has something built, a store may have it from an earlier run.
    """
    parts = (re.split(NUMBER, word) for word in re.sub(BARS, "", line).split())
    words = r"\s+".join(NUMBER.join(map(re.escape, part)) for part in parts)
    return re.sub(r"^built\b", "(?:built|linked)", words)


def follow(root: Path, command: Command) -> None:
    env = (
        dict(os.environ)
        | OWN
        | {"PYTHONPATH": os.fspath(root), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    )
    if any(map(PROMPT.match, command.lines)):
        type_at(root, command, env)
        return
    run = subprocess.run(
        ["bash", "-c", command.words], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = re.sub(BARS, "", run.stdout)
    for line in filter(str.strip, command.lines):
        found = re.search(rf"(?m)^\s*{pattern(line)}\s*$", said)
        assert found, f"$ {command.words}\nhas no line like\n{line}\nin\n{said}\n(all of it: {run.stdout})"
        said = said[found.end() :]


def type_at(root: Path, command: Command, env: dict[str, str]) -> None:
    child = pexpect.spawn(
        "bash", ["-c", command.words], cwd=os.fspath(root), env=env, encoding="utf-8", timeout=PATIENCE
    )
    child.setwinsize(50, 1000)
    for line in filter(str.strip, command.lines):
        if prompt := PROMPT.match(line):
            child.expect_exact(prompt["prompt"].partition(":")[0] + ":")
            child.expect_exact("# ")
            child.sendline(prompt["typed"])
        else:
            child.expect(rf"{pattern(line)}\s*[\r\n]")
    child.expect(pexpect.EOF)
    child.close()


def test_there_are_seven() -> None:
    assert [page.name[0] for page in PAGES] == list("1234567")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_true(page: Path, tmp_path: Path) -> None:
    root = copy_to(tmp_path / "project", lambda name: True)
    for block in blocks(page):
        if block["file"]:
            (root / block["file"]).parent.mkdir(parents=True, exist_ok=True)
            (root / block["file"]).write_text(block["text"])
        elif block["kind"] == "console":
            for command in commands(block["text"]):
                follow(root, command)
