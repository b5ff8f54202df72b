"""A page that shows what images are made of: one file with all that it needs, for any browser."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiln.report.breakdown import Change

_TEMPLATE = Path(__file__).with_name("treemap.html")


def page(title: str, trees: Sequence[Change], *, before: str | None = None) -> str:
    """The page as text; ``before`` is what the image was compared with, if it was."""
    data = {"title": title, "before": before, "trees": [_node(tree) for tree in trees]}
    # No name of a file may end the element that the data is in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("@TITLE@", html.escape(title)).replace("@DATA@", text)


def _node(change: Change) -> list[Any]:
    """Name, size, size before, whether both are about right, and the parts."""
    return [change.name, change.after, change.before, int(change.about), [_node(part) for part in change.parts]]
