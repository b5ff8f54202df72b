"""Configuration files of dracut: shell that dracut sources, of which only assignments are meant."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)
# What a shell would run or look up, outside of single quotes.
_EXPANSION = re.compile(r"\$[({\w]|`")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement, on line ``number``; ``key`` is empty for what is no assignment.

    ``adds`` tells ``+=`` from ``=``; ``live`` says that a shell would put something else in place of a part.
    """

    number: int
    text: str
    key: str = ""
    adds: bool = False
    value: str = ""
    live: bool = False

    @property
    def words(self) -> list[str]:
        return self.value.split()


def parse(text: str) -> Iterator[Statement]:
    """The statements of a file, in order. A quotation may go over several lines."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start if pending else number
        pending = f"{pending}\n{line}" if pending else line
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quotation is open
            continue
        if words:
            yield _statement(start, pending.strip(), words)
        pending = ""
    if pending:
        yield Statement(number=start, text=pending.strip())


def _statement(number: int, text: str, words: list[str]) -> Statement:
    found = _ASSIGNMENT.fullmatch(words[0])
    if len(words) > 1 or not found:
        return Statement(number=number, text=text)
    live = bool(_EXPANSION.search(re.sub(r"'[^']*'", "", text)))
    return Statement(number=number, text=text, key=found[1], adds=found[2] == "+=", value=found[3], live=live)
