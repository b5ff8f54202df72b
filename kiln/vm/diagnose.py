"""A diagnosis: what went wrong in a boot, read from its log."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kiln.vm.causes import Case, silence
from kiln.vm.setup import Setup
from kiln.vm.signs import SIGNS, Level

# A time stamp of ours, or of the kernel: seconds since the start.
_STAMP = re.compile(r"^\[\s*(\d+\.\d+)\] ?")
_STARTED = r"as init process|KILN-CHECK \w+ ok| login: ?$"
_LAST_LINES = 5

# Each line with the seconds since the start, where they are known.
Lines = Sequence[tuple[float | None, str]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A ``line`` of the log, what it means here, and what to do next."""

    level: Level
    line: str
    means: str
    then: str
    time: float | None = None
    count: int = 1

    def __str__(self) -> str:
        stamp = f"{self.time:.3f} s  " if self.time is not None else ""
        more = f"  ({self.count} times)" if self.count > 1 else ""
        rows = (self.means, self.then)
        return f"{self.level:<8} {stamp}{self.line}{more}" + "".join(f"\n         {row}" for row in rows if row)


def read(text: str) -> Lines:
    """The lines of a log, and the time stamps before them: ours, or else the kernel's."""
    found = [(_STAMP.match(line), line) for line in text.splitlines()]
    return [(float(stamp[1]), line[stamp.end() :]) if stamp else (None, line) for stamp, line in found]


def diagnose(log: Lines, setup: Setup) -> list[Finding]:
    """What the log says is wrong: what ended the boot first, then the rest. What follows from that is left out."""
    if not any(text.strip() for _, text in log):
        means, then = silence(setup)
        return [Finding(level="failure", line="not a word was printed", means=means, then=then)]
    return list(_findings(log, setup))


def started(log: Lines) -> bool:
    """Whether the boot came as far as its first program."""
    return any(re.search(_STARTED, text) for _, text in log)


def render(log: Lines, findings: Sequence[Finding]) -> list[str]:
    """The findings in words, or else how the boot came out."""
    lines = [str(finding) for finding in findings]
    if any(finding.level != "note" for finding in findings):
        return lines
    if started(log):
        return [*lines, "the boot looks fine"]
    spoken = [text for _, text in log if text.strip()]
    lines.append("nothing in it is known to be bad, but no first program was started either; its last lines:")
    return lines + [f"         {text}" for text in spoken[-_LAST_LINES:]]


def _findings(log: Lines, setup: Setup) -> Iterator[Finding]:
    texts = [_STAMP.sub("", text, count=1) for _, text in log]
    told: set[int] = set()
    ended = False
    for sign in SIGNS:
        if sign.ends and ended:
            continue
        found = [(index, match) for index, text in enumerate(texts) if (match := re.search(sign.pattern, text))]
        for index, match in found:
            if index in told:
                continue
            account = sign.read(Case(setup=setup, lines=texts, index=index, match=match))
            if not account:
                continue
            told |= {other for other, _ in found}
            ended = ended or sign.ends
            means, then = account
            line = log[index][1].strip()
            yield Finding(level=sign.level, line=line, means=means, then=then, time=log[index][0], count=len(found))
            break
