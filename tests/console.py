"""The console of a machine, and a person at its shell."""

import os
import sys
from pathlib import Path

import pexpect

ROOT = Path(__file__).parent.parent


def qemu(*words: str) -> "pexpect.spawn[str]":
    """`doit qemu` of this checkout, on a terminal."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "doit", "qemu", *words],
        cwd=os.fspath(ROOT),
        env=dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)},
        encoding="utf-8",
        codec_errors="replace",
        timeout=180,
    )


def tell(child: "pexpect.spawn[str]", secret: str, reply: str) -> None:
    """Type a secret until ``reply`` comes: who asks for one throws away what was typed before the echo was off."""
    for _ in range(18):
        child.sendline(secret)
        if child.expect([reply, pexpect.TIMEOUT], timeout=10) == 0:
            return
    raise AssertionError(f"no {reply!r} after {child.before}")


class Console:
    """QEMU, as ``argv`` starts it, with its serial line on a terminal."""

    def __init__(self, argv: list[str]) -> None:
        self.child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", timeout=180)

    def until(self, pattern: str | type[pexpect.EOF]) -> str:
        """What comes before a pattern, such as a shell's prompt."""
        self.child.expect(pattern)
        return str(self.child.before).replace("\r", "")

    def ask(self, line: str) -> list[str]:
        """The lines that a command prints."""
        self.child.sendline(f"echo begin-$((40 + 1)); {line}; echo end-$((40 + 2))")
        self.until("begin-41\r+\n")
        text = self.until("end-42")
        self.until("# ")
        return text.splitlines()

    def end(self, line: str) -> str:
        """What comes after a command that ends in the machine's end."""
        self.child.sendline(line)
        text = self.until(pexpect.EOF)
        self.child.close()
        return text
