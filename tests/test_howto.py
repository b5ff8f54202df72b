"""docs/add-a-package.md, followed to the letter: its recipes are written, built, and run in the guest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from kiln.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/add-a-package.md").read_text()
# Each block of code is the file whose path was named last before it.
BLOCK = re.compile(r"`(packages/[\w./-]+)`(?:(?!`packages/|```).)*\n\n```(?:python|c)\n(.*?)```", re.DOTALL)
FILES = dict(BLOCK.findall(PAGE))
ETHTOOL = "packages/ethtool/recipe.py"

pytestmark = pytest.mark.boot


def environment(copy: Path) -> dict[str, str]:
    settings = Settings.read(ROOT)
    ours = {"KILN_STORE": os.fspath(settings.store), "KILN_DOWNLOADS": os.fspath(settings.downloads)}
    return dict(os.environ) | ours | {"PYTHONPATH": os.fspath(copy)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in another folder, which shares our store."""
    root = tmp_path_factory.mktemp("howto") / "project"
    shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns("output", ".venv", ".git", ".*_cache"))
    return root


def doit(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "doit", *words]
    return subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True)


def test_the_page_has_its_recipes() -> None:
    assert set(FILES) == {ETHTOOL, "packages/hello/recipe.py", "packages/hello/files/hello.c"}
    assert len(FILES[ETHTOOL].splitlines()) <= 15


def test_new_package_writes_what_the_page_begins_with(copy: Path) -> None:
    words = re.search(r"\$ doit (new-package .*)", PAGE)
    assert words
    run = doit(copy, *words[1].split())
    assert run.returncode == 0, run.stdout + run.stderr
    file = copy / ETHTOOL
    left = set(file.read_text().splitlines()) - set(FILES[ETHTOOL].splitlines())
    assert sorted(line.split("=")[0].strip() for line in left) == ["license", "summary"]
    file.write_text(re.sub(r"license=.*", 'license="GPL-2.0-only",', file.read_text()))
    run = doit(copy, "ethtool")
    assert run.returncode == 1
    for line in ("FAILED  ethtool:build", "configure: error: Package requirements (libmnl) were not met:"):
        assert line in run.stdout
        assert line in PAGE


def test_its_programs_run_in_the_guest(copy: Path) -> None:
    for name, text in FILES.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    node = copy / "configs/common/node.toml"
    text, count = re.subn(r"(?m)^packages = \[", r'\g<0>"ethtool", "hello", ', node.read_text())
    assert count == 1
    node.write_text(text)
    run = doit(copy, "image")
    assert run.returncode == 0, run.stdout + run.stderr
    words, env = ["-m", "doit", "qemu"], environment(copy)
    child = pexpect.spawn(sys.executable, words, cwd=os.fspath(copy), env=env, encoding="utf-8", timeout=120)
    child.expect("-nodefaults")
    child.expect("# ")
    child.sendline("ethtool --version; ethtool lo | cat; grep hello: /var/log/messages")
    child.expect(r"ethtool version 6\.1\r")
    child.expect("Link detected: ")
    child.expect("hello: hello from user 101")
    child.expect("# ")
    child.sendline("poweroff")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
