"""Editing a recipe's literals: what is not replaced stays as it was, byte for byte."""

import ast
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kiln.errors import KilnError

_PINS = ("Archive", "Debian", "Git")


class Editor:
    """The recipe in ``file``, and replacements that ``save`` writes all at once."""

    def __init__(self, file: Path, package: str) -> None:
        self.file = file
        self.text = file.read_bytes()
        self._starts = [0]
        for line in self.text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._edits: list[tuple[int, int, bytes]] = []
        calls = [node for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.Call)]
        named = [call for call in calls if isinstance(field(call, "name"), ast.Constant)]
        found = [call for call in named if ast.literal_eval(_value(call, "name")) == package]
        if not found:
            raise self._error("its name is not written as a plain string", None)
        self.package = found[0]

    @property
    def source(self) -> ast.Call:
        """The call that makes the package's pin."""
        return self._pin(_value(self.package, "source"))

    @property
    def mirrors(self) -> list[ast.Call]:
        """The calls that make the pins of its mirrors."""
        value = field(self.source, "mirrors")
        if value is None:
            return []
        if not isinstance(value, ast.List):
            raise self._error("mirrors are not written as a list", value)
        return [self._pin(item) for item in value.elts]

    def set(self, call: ast.Call, name: str, text: str) -> None:
        """Let a string of a call be ``text``; ``name`` is a keyword, or that of the first argument."""
        node = field(call, name)
        node = call.args[0] if node is None and call.args and name in ("url", "file") else node
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self._error(f"{name} is not written as a plain string", node or call)
        start, end = self._span(node)
        quote = b"'" if self.text[start:end].endswith(b"'") else b'"'
        self._edits.append((start, end, quote + text.encode() + quote))

    def add(self, call: ast.Call, name: str, text: str, *, after: str) -> None:
        """Give a call one more keyword, behind one that it has."""
        start, end = self._span(next(word for word in call.keywords if word.arg == after))
        line = self.text.rfind(b"\n", 0, start) + 1
        before = self.text[line:start]
        gap = b" " if before.strip() else b"\n" + before
        self._edits.append((end, end, b"," + gap + f'{name}="{text}"'.encode()))

    def drop(self, mirrors: Sequence[ast.Call]) -> None:
        """Remove mirrors; where none stays, the field goes along."""
        value = field(self.source, "mirrors")
        assert isinstance(value, ast.List)
        if len(mirrors) < len(value.elts):
            for mirror in mirrors:
                self._cut(mirror, value.elts)
        else:
            words = [*self.source.args, *self.source.keywords]
            self._cut(next(word for word in self.source.keywords if word.arg == "mirrors"), words)

    def save(self) -> None:
        """Write the recipe by a rename, so that it is never half-written."""
        text, done = b"", 0
        for start, end, new in sorted(self._edits):
            text += self.text[done:start] + new
            done = max(done, end)
        text += self.text[done:]
        ast.parse(text)
        handle, scratch = tempfile.mkstemp(dir=self.file.parent, prefix=".recipe-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(self.file, scratch)
            os.replace(scratch, self.file)
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)
            raise

    def _pin(self, node: ast.expr) -> ast.Call:
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in _PINS:
            return node
        raise self._error("the source is not written where the package is", node)

    def _cut(self, node: ast.AST, siblings: Sequence[ast.AST]) -> None:
        start, end = self._span(node)
        line = self.text.rfind(b"\n", 0, start) + 1
        rest = re.match(rb",?[ \t]*(#[^\n]*)?\r?\n", self.text[end:])
        if rest and not self.text[line:start].strip():  # it has lines of its own
            start, end = line, end + rest.end()
        elif node is siblings[-1]:
            start = self._span(siblings[-2])[1]
        else:
            end = self._span(siblings[siblings.index(node) + 1])[0]
        self._edits.append((start, end, b""))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        line, end_line = getattr(node, "lineno"), getattr(node, "end_lineno")  # noqa: B009
        start, end = getattr(node, "col_offset"), getattr(node, "end_col_offset")  # noqa: B009
        return self._starts[line - 1] + start, self._starts[end_line - 1] + end

    def _error(self, message: str, node: ast.expr | None) -> KilnError:
        where = f"{self.file}:{node.lineno}" if node else os.fspath(self.file)
        return KilnError(message, where=where, hint="edit this recipe by hand")


def field(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword, where the call has it."""
    return next((word.value for word in call.keywords if word.arg == name), None)


def _value(call: ast.Call, name: str) -> ast.expr:
    value = field(call, name)
    assert value is not None
    return value
