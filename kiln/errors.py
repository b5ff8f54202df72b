"""The one error that users see: what went wrong, where, and what to do next."""

import difflib
import errno
import sys
from collections.abc import Iterable
from functools import cache

# What the user's disks answer, which is no mistake of ours.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

_SHOWN = 30


class KilnError(Exception):
    """A mistake or a failure that the user can act on; printed without a traceback.

    ``where`` names the file, field or task; ``hint`` says what to do next.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not ``known``: the closest ones, or else as many as can be read."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "known: " + (", ".join(names[:_SHOWN]) or "none") + more


@cache
def say(text: str) -> None:
    """Tell the user, once, of something that is no error."""
    print(text, file=sys.stderr, flush=True)
