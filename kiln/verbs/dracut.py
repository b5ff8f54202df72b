"""What is about dracut: its configurations, and modules of one's own."""

import os
from pathlib import Path

from kiln.dracut import skeleton
from kiln.dracut.lint import Known, lint
from kiln.dracut.profile import Profile
from kiln.errors import KilnError
from kiln.graph import Graph


def lint_(graph: Graph, *places: str) -> None:
    """Print what is wrong in configurations of dracut: files, or else those of the board.

    Raises KilnError where something is, and for what cannot be read.
    """
    profile = Profile(board=graph.board)
    files = [Path(place) for place in places] or profile.files
    if not files:
        folder = os.path.relpath(graph.board.files / "dracut.conf.d")
        raise KilnError(f"{graph.board.name} has no configuration of dracut", hint=f"write {folder}/NAME.conf")
    known = Known.of(*(part.built().root for part in (graph.result("dracut"), graph.kernel)), own=profile.modules)
    wrong = 0
    for file in files:
        try:
            text = file.read_text()
        except (OSError, ValueError) as error:
            raise KilnError(f"cannot read it: {error}", where=os.fspath(file)) from error
        for finding in lint(text, known, useful=not profile.is_broad(file)):
            wrong += finding.wrong
            print(f"{os.path.relpath(file)}:{finding.number}: {finding.text}")
            if finding.instead:
                print(f"    {finding.instead}")
    if wrong:
        raise KilnError(f"{wrong} line{'s' * (wrong > 1)} will not do what {'they say' if wrong > 1 else 'it says'}")


def new_module(graph: Graph, *words: str) -> None:
    """Write the first files of a module of the board's own, with a hook for every stage."""
    if len(words) != 1:
        raise KilnError("say what it is called", hint="doit new-dracut-module NAME")
    known = Known.of(graph.result("dracut").built().root, own=Profile(board=graph.board).modules)
    print("\n".join(skeleton.create(words[0], graph.board, known.modules)))
