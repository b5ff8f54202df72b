"""``doit new-dracut-module``: what it writes, and what it leaves where it cannot."""

import subprocess
from pathlib import Path

import pytest

from kiln.board import Board
from kiln.dracut.conf import parse
from kiln.dracut.lint import Known, lint
from kiln.dracut.skeleton import STAGES, create
from kiln.errors import KilnError
from kiln.verbs.dracut import new_module
from tests.project import Project

KNOWN = frozenset(("base", "lvm", "kiln-wait"))
STUBS = 'info() { echo "said $*"; }\ninst_hook() { echo "$1 $2 $3"; [ -f "$3" ]; }\n'


@pytest.fixture
def board(project: Project) -> Board:
    project.board(packages=[], more='initramfs = "dracut"\n')
    return project.graph().board


def bash(text: str, **env: str) -> str:
    run = subprocess.run(["bash", "-euc", STUBS + text], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


@pytest.fixture
def module(board: Board) -> Path:
    create("glaze", board, KNOWN)
    return board.files / "dracut/modules.d/90glaze"


def test_it_says_what_it_wrote_and_what_to_do_next(board: Board) -> None:
    assert create("glaze", board, KNOWN) == [
        "wrote    board/test/dracut/modules.d/90glaze/: module-setup.sh, and a hook for each of 10 stages",
        "wrote    board/test/dracut.conf.d/glaze.conf: has it included in the initramfs",
        "then     write your commands into the hooks, and remove those that you do not need, with their lines in"
        " module-setup.sh",
        "then     doit initramfs BOARD=test",
    ]
    assert [path.name for path in (board.files / "dracut").iterdir()] == ["modules.d"]


def test_a_board_without_dracut_is_told_how_to_get_it(project: Project) -> None:
    assert 'then     set initramfs = "dracut" in configs/test.toml' in create("glaze", project.graph().board, KNOWN)


def test_the_configuration_includes_it_and_nothing_is_wrong_with_it(board: Board, module: Path) -> None:
    text = (board.files / "dracut.conf.d/glaze.conf").read_text()
    (said,) = parse(text)
    assert (said.key, said.adds, said.words) == ("add_dracutmodules", True, ["glaze"])
    assert list(lint(text, Known(modules={*KNOWN, "glaze"}, drivers=(), builtin=()))) == []


def test_the_module_installs_a_hook_of_its_own_name_for_every_stage(module: Path) -> None:
    said = bash(". $moddir/module-setup.sh; check; depends; install", moddir=str(module))
    rows = [line.split() for line in said.splitlines()]
    assert [(stage, number) for stage, number, _ in rows] == [(stage, "50") for stage in STAGES]
    names = {Path(path).name for _, _, path in rows}
    assert len(names) == len(STAGES)
    assert all(name.startswith("glaze-") for name in names)
    assert {path.name for path in module.iterdir()} == {*names, "module-setup.sh"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_hook_says_its_stage_once_and_has_room_for_commands(module: Path, tmp_path: Path, stage: str) -> None:
    file = module / f"glaze-{stage.replace('/', '-')}.sh"
    job = tmp_path / "job"
    job.touch()
    assert bash(f"job={job}; . {file}") == f"said glaze: {stage}\n"
    assert job.exists() == (stage not in ("initqueue", "initqueue/settled"))
    assert file.read_text().count("# Your commands") == 1


def test_what_is_asked_again_and_again_says_so_only_when_it_is_content(module: Path) -> None:
    text = (module / "glaze-initqueue-finished.sh").read_text().replace("# Your commands", "return 1\n#")
    assert bash(f"asked() {{ {text}\n}}\nasked || echo no") == "no\n"


@pytest.mark.parametrize("name", ["", "Glaze", "9glaze", "-glaze", "a/b", "../glaze", "gl aze", "glaze\n"])
def test_what_is_no_name(board: Board, name: str) -> None:
    with pytest.raises(KilnError, match="is no name of a module"):
        create(name, board, KNOWN)
    assert not (board.files / "dracut").exists()


def test_names_that_dracut_has(board: Board) -> None:
    with pytest.raises(KilnError, match="NAME: dracut has a module lvm already\n  take another name, such as my-lvm"):
        create("lvm", board, KNOWN)
    assert not board.files.exists()


@pytest.mark.parametrize("place", ["dracut/modules.d/90glaze/mine", "dracut.conf.d/glaze.conf"])
def test_what_is_there_is_left_as_it_is(project: Project, board: Board, place: str) -> None:
    file = project.file(f"board/test/{place}", "mine\n")
    with pytest.raises(KilnError, match=r"board/test/dracut\S*glaze\S*: is there already, and is left as it is"):
        create("glaze", board, {*KNOWN, "glaze"})
    assert [path for path in board.files.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine\n"


def test_one_name_is_asked_for(project: Project) -> None:
    for words in ((), ("a", "b")):
        with pytest.raises(KilnError, match="doit new-dracut-module NAME"):
            new_module(project.graph(), *words)
