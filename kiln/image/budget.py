"""Budgets: the most that files and packages of an image may take."""

from collections.abc import Mapping

from kiln.errors import KilnError, nearest
from kiln.report.size import human

_BIGGEST = 3


def check(budgets: Mapping[str, int], files: Mapping[str, int], packages: Mapping[str, int]) -> None:
    """Raise KilnError with a line for each budget that is exceeded, or for a name that is nothing in the image.

    All are in bytes: the budgets, the image's files, and the content of packages in its root file system.
    """
    sizes = {**packages, **files}
    for name in budgets:
        if name not in sizes:
            raise KilnError(
                f"the image has no file or package {name!r}", where=f"budget.{name}", hint=nearest(name, sizes)
            )
    over = [
        f"{name} takes {_exact(sizes[name])}, {human(sizes[name] - budget)} more than {_exact(budget)}"
        for name, budget in budgets.items()
        if sizes[name] > budget
    ]
    if over:
        biggest = sorted(packages.items(), key=lambda item: (-item[1], item[0]))[:_BIGGEST]
        told = ", ".join(f"{name} {human(size)}" for name, size in biggest)
        remedy = "`doit size` shows what takes the room; leave things out, or raise their budget"
        raise KilnError(
            "\n  ".join(["over budget", *over]), where="budget", hint=f"biggest packages: {told}\n  {remedy}"
        )


def _exact(size: int) -> str:
    return f"{human(size)} ({size} B)"
