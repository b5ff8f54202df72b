from pathlib import Path

import pytest

from kiln.vm.check import Verdict, boot_and_check
from kiln.vm.qemu import Boot, Machine

WORD = 'for w; do case $w in *kiln.check=*) word=${w##*kiln.check=} ;; esac; done; echo "$*"; '


def boot(script: str, log: Path, *, timeout: float = 60.0, silence: float = 60.0) -> Verdict:
    """A shell script in QEMU's place: it sees the same command line."""
    return boot_and_check(
        Machine(),
        Boot(kernel=Path("/bzImage"), cmdline="console=ttyS0"),
        program=("sh", "-c", WORD + script, "machine"),
        kvm=False,
        log=log,
        timeout=timeout,
        silence=silence,
    )


def test_a_machine_that_says_the_word_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = boot('echo "KILN-CHECK $word ok"', log)
    assert found.ok, found.reason
    assert "-append console=ttyS0 panic=-1 " in log.read_text()


def test_every_boot_has_a_word_of_its_own(tmp_path: Path) -> None:
    for log in (tmp_path / "1", tmp_path / "2"):
        boot('echo "word $word"', log)
    words = [log.read_text().split()[-1] for log in (tmp_path / "1", tmp_path / "2")]
    assert words[0] != words[1]
    assert all(len(word) == 16 for word in words)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('echo "KILN-CHECK $word FAIL no vi"', "the check failed: no vi"),
        ('echo "KILN-CHECK $word ok"; exit 2', "QEMU ended with status 2"),
        ('echo "KILN-CHECK 0123456789abcdef ok"', "without the check's word"),
        ('echo "KILN-CHECK $word ok"; exec sleep 60', "fell silent"),
    ],
)
def test_a_machine_that_is_not_well(tmp_path: Path, script: str, reason: str) -> None:
    found = boot(script, tmp_path / "log", silence=2)
    assert not found.ok
    assert reason in found.reason
