import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln import kconfig

TEXT = """\
# Automatically generated
CONFIG_64BIT=y
CONFIG_HZ=250
CONFIG_CMDLINE="a=b c"
CONFIG_EMPTY=""
  CONFIG_MODULE=m
# CONFIG_SWAP is not set
#CONFIG_COMMENT=y
"""
SYMBOLS = {
    "CONFIG_64BIT": "y",
    "CONFIG_HZ": "250",
    "CONFIG_CMDLINE": '"a=b c"',
    "CONFIG_EMPTY": '""',
    "CONFIG_MODULE": "m",
    "CONFIG_SWAP": "n",
}


def test_a_configuration_is_read() -> None:
    assert kconfig.parse(TEXT) == SYMBOLS


def test_the_last_line_of_a_symbol_counts() -> None:
    assert kconfig.parse("CONFIG_A=y\n# CONFIG_A is not set\n") == {"CONFIG_A": "n"}


def test_what_is_written_reads_back() -> None:
    text = kconfig.render(SYMBOLS)
    assert "# CONFIG_SWAP is not set\n" in text
    assert kconfig.parse(text) == SYMBOLS
    assert kconfig.render({}) == ""


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ({"A": "y"}, {"A": "y"}, {}),
        ({"A": "y"}, {"A": "m"}, {"A": "m"}),
        ({"A": "y"}, {}, {"A": "n"}),
        ({}, {"A": "n"}, {}),
        ({"B": "1"}, {"B": "2", "A": "y"}, {"A": "y", "B": "2"}),
    ],
)
def test_the_difference_is_what_must_be_asked_for(
    old: dict[str, str], new: dict[str, str], asked: dict[str, str]
) -> None:
    assert kconfig.difference(old, new) == asked


def test_a_lost_symbol_names_who_asked_for_it_last() -> None:
    fragments = [("base", {"A": "y", "B": "y", "C": "n"}), ("board", {"B": "m", "D": "n"})]
    assert kconfig.lost({"A": "y", "B": "m"}, fragments) == []
    assert kconfig.lost({"C": "y"}, fragments) == [
        "base asks for A=y, the outcome is n",
        "board asks for B=m, the outcome is n",
        "base asks for C=n, the outcome is y",
    ]


def test_what_may_be_a_module_may_be_built_in_but_not_the_other_way() -> None:
    fragments = [("net", {"A": "m"}), ("board", {"B": "y"})]
    assert kconfig.lost({"A": "y", "B": "y"}, fragments) == []
    assert kconfig.lost({"A": "m", "B": "m"}, fragments) == ["board asks for B=y, the outcome is m"]


def command(verb: str, *files: Path) -> subprocess.CompletedProcess[str]:
    # Isolated: the script must work where kiln cannot be imported.
    return subprocess.run([sys.executable, "-I", kconfig.__file__, verb, *files], capture_output=True, text=True)


def test_the_command_lays_fragments_over_a_configuration(write: Callable[[str, str], Path]) -> None:
    config = write(".config", "CONFIG_A=y\nCONFIG_B=y\n")
    fragments = write("a.config", "# CONFIG_A is not set\nCONFIG_C=1\n"), write("b.config", "CONFIG_C=2\n")
    assert command("apply", config, *fragments).returncode == 0
    assert config.read_text() == "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=2\n"
    assert command("check", config, *fragments).returncode == 0


def test_the_command_fails_for_a_lost_symbol(write: Callable[[str, str], Path]) -> None:
    config, fragment = write(".config", "CONFIG_A=y\n"), write("net.config", "CONFIG_A=y\nCONFIG_NET=y\n")
    checked = command("check", config, fragment)
    assert checked.returncode == 1
    assert "kconfig: net.config asks for CONFIG_NET=y, the outcome is n\n" in checked.stdout
    assert "CONFIG_A" not in checked.stdout
