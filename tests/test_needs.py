"""What a kernel lacks for a purpose: found in its configuration, told with the reason and the line to write."""

import hashlib
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kiln import kconfig, needs
from kiln.errors import KilnError
from kiln.needs import Need, Symbol
from kiln.store import Work
from kiln.verbs.kconfig import check, configured
from tests.project import Project

ROOT = Path(__file__).parent.parent
PURPOSES = ["container", "docker", "kubernetes", "security"]


def met(text: str, config: dict[str, str], *, modules: bool = True) -> bool:
    symbols = [word.partition("=") for word in text.split(" or ")]
    made = tuple(Symbol(name=name, value=value) for name, _, value in symbols)
    return Need(symbols=made, reason="", required=True).met(config, modules=modules)


@pytest.mark.parametrize(
    ("text", "config", "yes"),
    [
        ("A", {"A": "y"}, True),
        ("A", {"A": "n"}, False),
        ("A", {}, False),
        ("A", {"A": "m"}, True),
        ("A or B", {"B": "m"}, True),
        ("A or B", {"C": "y"}, False),
        ("A=x", {"A": '"w,x"'}, True),
        ("A=x", {"A": '"xy"'}, False),
        ("A=65536", {"A": "65536"}, True),
        ("A=n", {}, True),
        ("A=n", {"A": "y"}, False),
    ],
)
def test_what_a_configuration_gives(text: str, config: dict[str, str], yes: bool) -> None:
    assert met(text, config) is yes


def test_a_module_counts_where_it_can_be_loaded() -> None:
    assert not met("A", {"A": "m"}, modules=False)
    assert met("A", {"A": "y"}, modules=False)


@pytest.mark.parametrize(
    ("symbol", "config", "line"),
    [
        (Symbol(name="A"), {}, "A=y"),
        (Symbol(name="A", value="n"), {"A": "y"}, "# A is not set"),
        (Symbol(name="A", value="65536"), {"A": "4096"}, "A=65536"),
        (Symbol(name="A", value="x"), {"A": '"v,w"'}, 'A="v,w,x"'),
        (Symbol(name="A", value="x"), {"A": '""'}, 'A="x"'),
    ],
)
def test_the_line_to_write_gives_it(symbol: Symbol, config: dict[str, str], line: str) -> None:
    assert symbol.line(config) == line
    named = {name: value for text in [line.replace("A", "CONFIG_A", 1)] for name, value in kconfig.parse(text).items()}
    assert Symbol(name="CONFIG_A", value=symbol.value).given(named)


def test_the_purposes_that_are_here_can_be_read() -> None:
    assert needs.purposes(ROOT) == PURPOSES
    for purpose in PURPOSES:
        found = needs.load(ROOT, purpose)
        assert {need.required for need in found} == {True, False}
        assert all(need.reason for need in found)
    assert {str(need) for need in needs.load(ROOT, "container")} < {str(need) for need in needs.load(ROOT, "docker")}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_our_fragments_ask_for_all_that_is_required(purpose: str) -> None:
    """But for what comes by itself, or is not said by whoever asks for what selects it."""
    asked: dict[str, str] = {}
    for name in ("base", "disk", "net", "modules", "container", "security"):
        asked |= kconfig.parse((ROOT / f"board/common/linux/{name}.config").read_text())
    by_itself = {"CONFIG_STRICT_MODULE_RWX or CONFIG_MODULES=n"}
    lacking = {str(need) for need in needs.load(ROOT, purpose) if need.required and not need.met(asked, modules=True)}
    assert lacking <= by_itself


@pytest.fixture
def purposes(project: Project) -> Project:
    """A project with two purposes, one of which includes the other, and a fragment."""
    project.file(
        "board/common/kconfig/pot.toml",
        """\
        [required]
        CLAY = "what it is made of"
        [optional]
        GLAZE = "what makes it shine"
        """,
    )
    project.file(
        "board/common/kconfig/tea.toml",
        """\
        include = ["pot"]
        [required]
        GLAZE = "tea does not get out"
        "LID or CLOTH" = "it stays warm"
        """,
    )
    project.file("board/common/linux/clay.config", "CONFIG_CLAY=m\n")
    return project


def test_what_is_included_and_required_is_required(purposes: Project) -> None:
    found = {str(need): need.required for need in needs.load(purposes.root, "tea")}
    assert found == {"CONFIG_CLAY": True, "CONFIG_GLAZE": True, "CONFIG_LID or CONFIG_CLOTH": True}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[requird]\nA = 'x'", "bad.toml: unknown key 'requird'\n  did you mean required"),
        ("[required]\nclay = 'x'", "bad.toml, required: 'clay' is no need"),
        ("[required]\nA = 1", "bad.toml, required: 'A' is no need"),
        ("[required", r"bad.toml: Expected '\]'"),
        ("include = ['pt']", "bad.toml: nothing says what 'pt' needs of a kernel\n  did you mean pot"),
    ],
)
def test_what_is_wrong_in_a_list_is_told(purposes: Project, text: str, told: str) -> None:
    purposes.file("board/common/kconfig/bad.toml", text)
    with pytest.raises(KilnError, match=told):
        needs.load(purposes.root, "bad")


def run(project: Project, config: str, *names: str) -> None:
    """The verb, for a kernel that came out with that configuration."""
    graph = project.graph()
    target = configured(graph)

    def fill(work: Work) -> dict[str, Any]:
        (work.root / "boot").mkdir(parents=True)
        (work.root / "boot/config").write_text(config)
        return {}

    target.store.build(target.name, target.version, target.inputs(), fill)
    target.look()
    check(graph, *names)


def test_the_verb_says_what_to_write(purposes: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KilnError, match=r"configs/test.toml: 3 required symbols missing"):
        run(purposes, "# CONFIG_CLAY is not set\n", "tea")
    assert capsys.readouterr().out == textwrap.dedent("""\
        missing   CONFIG_CLAY: what it is made of
                  add "clay" to linux in [kconfig] of configs/test.toml
        missing   CONFIG_GLAZE: tea does not get out
                  write CONFIG_GLAZE=y into board/test/linux/tea.config
        missing   CONFIG_LID or CONFIG_CLOTH: it stays warm
                  write CONFIG_LID=y into board/test/linux/tea.config
        test has 0 of 3 that tea looks for, and lacks 3 required and 0 optional ones
        """)


def test_the_verb_lets_optional_ones_be(purposes: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run(purposes, "CONFIG_CLAY=y\n", "pot")
    assert capsys.readouterr().out == textwrap.dedent("""\
        optional  CONFIG_GLAZE: what makes it shine
                  write CONFIG_GLAZE=y into board/test/linux/pot.config
        test has 1 of 2 that pot looks for, and lacks 0 required and 1 optional ones
        """)


def test_modules_must_be_in_the_image(purposes: Project, capsys: pytest.CaptureFixture[str]) -> None:
    config = "CONFIG_CLAY=m\nCONFIG_GLAZE=y\n"
    with pytest.raises(KilnError, match="1 required symbol missing"):
        run(purposes, config, "pot")
    assert 'none: add "linux-modules" to packages in configs/test.toml' in capsys.readouterr().out
    purposes.recipe("linux-modules")
    purposes.board(packages=["linux-modules"])
    run(purposes, config, "pot")
    assert capsys.readouterr().out == "test has 2 of 2 that pot looks for, and lacks 0 required and 0 optional ones\n"


def test_the_verb_wants_a_purpose_that_there_is(purposes: Project) -> None:
    with pytest.raises(KilnError, match=r"say what the kernel is for\n.* one of pot, tea"):
        run(purposes, "")
    with pytest.raises(KilnError, match="'tee' needs of a kernel\n  did you mean tea"):
        run(purposes, "", "tee")


def prebuilt(project: Project, more: str = "") -> None:
    file = project.file("board/test/vmlinuz", "a kernel")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    project.board(packages=[], more=f'[kernel]\nfile = "board/test/vmlinuz"\nsha256 = "{sha256}"\n{more}')
    graph = project.graph()
    configured(graph).build()
    check(graph, "pot")


def test_a_kernel_of_somebody_else(purposes: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KilnError, match=r"kernel: nothing tells how this kernel was configured\n  say config ="):
        prebuilt(purposes)
    purposes.file("board/test/kernel.config", "CONFIG_CLAY=m\n")
    capsys.readouterr()
    with pytest.raises(KilnError, match="1 required symbol missing"):
        prebuilt(purposes, 'config = "board/test/kernel.config"\n')
    said = capsys.readouterr().out
    assert "put lib/modules into board/test/overlay" in said
    assert "whoever builds this kernel must set CONFIG_GLAZE=y" in said
    purposes.file("board/test/overlay/lib/modules/6.1/modules.dep", "")
    prebuilt(purposes, 'config = "board/test/kernel.config"\n')
