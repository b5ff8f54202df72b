import ast
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.recipe.edit import Editor

RECIPE = """\
# -*- a comment -*-
from kiln import Archive, Debian, Git, Package

demo = Package(
    summary = 'ünïcode: "1.0"',  # 1.0, as it was
    version='1.0', name="demo",
    source=Git(
        "https://a.example/demo",
        tag="v1.0",   # the tag
        commit="1111111111111111111111111111111111111111",
        content=("sha256:"
                 "2222"),
        mirrors=[
            Debian("demo_1.0.orig.tar.gz", sha256="3333"),

            Archive("https://b.example/demo-1.0.tar.gz", sha256="4444"),  # theirs
            Archive(
                "https://c.example/demo-1.0.tar.gz",
                sha256="5555",
            ),
        ],
    ),
    license="MIT",
)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    path.chmod(0o640)
    return path


def test_only_the_literals_change(file: Path) -> None:
    editor = Editor(file, "demo")
    editor.set(editor.package, "version", "1.1")
    editor.set(editor.source, "tag", "v1.1")
    editor.set(editor.source, "content", "sha256:6666")
    editor.set(editor.mirrors[0], "file", "demo_1.1.orig.tar.gz")
    editor.save()
    assert file.read_text() == (
        RECIPE.replace("version='1.0'", "version='1.1'")
        .replace('"v1.0"', '"v1.1"')
        .replace('"sha256:"\n                 "2222"', '"sha256:6666"')
        .replace("demo_1.0", "demo_1.1")
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["recipe.py"]


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_line_ends_stay(file: Path, newline: str) -> None:
    file.write_bytes(RECIPE.replace("\n", newline).encode())
    editor = Editor(file, "demo")
    editor.set(editor.source, "commit", "7" * 40)
    editor.drop([editor.mirrors[2]])
    editor.save()
    text = file.read_bytes().decode()
    assert "7" * 40 in text
    assert "c.example" not in text
    assert text.count(newline) == text.count("\n")


def mirrors(text: str) -> list[str]:
    source = next(
        word.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
        for word in node.keywords if word.arg == "source"
    )  # fmt: skip
    assert isinstance(source, ast.Call)
    found = [word.value for word in source.keywords if word.arg == "mirrors"]
    return [ast.unparse(item.args[0]) for item in found[0].elts] if found else []  # type: ignore[attr-defined]


@pytest.mark.parametrize("numbers", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize("flat", [False, True])
def test_mirrors_leave_and_the_rest_stays(file: Path, numbers: list[int], flat: bool) -> None:
    if flat:
        file.write_text(ast.unparse(ast.parse(RECIPE)))
    before = file.read_text()
    names = mirrors(before)
    assert len(names) == 3
    editor = Editor(file, "demo")
    editor.drop([editor.mirrors[number] for number in numbers])
    editor.save()
    text = file.read_text()
    assert mirrors(text) == [name for number, name in enumerate(names) if number not in numbers]
    assert 'tag="v1.0",   # the tag\n' in text or flat
    assert set(text.splitlines()) <= set(before.splitlines()) or flat


def test_a_keyword_is_added_where_the_others_are(file: Path) -> None:
    editor = Editor(file, "demo")
    editor.add(editor.mirrors[0], "content", "sha256:8", after="sha256")
    editor.add(editor.mirrors[2], "content", "sha256:9", after="sha256")
    editor.save()
    text = file.read_text()
    assert 'Debian("demo_1.0.orig.tar.gz", sha256="3333", content="sha256:8"),\n' in text
    assert '                sha256="5555",\n                content="sha256:9",\n' in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'1.0'", "VERSION", "recipe.py:6: version is not written as a plain string"),
        ('tag="v1.0"', 'tag=f"v{VERSION}"', "tag is not written as a plain string"),
        ("source=Git(", "source=git(", "the source is not written where the package is"),
        ('name="demo"', "name=NAME", "its name is not written as a plain string"),
    ],
)
def test_what_is_computed_is_left_to_a_person(file: Path, old: str, new: str, message: str) -> None:
    text = RECIPE.replace(old, new)
    file.write_text(text)
    with pytest.raises(KilnError, match=message):
        _change(file)
    assert file.read_text() == text


def _change(file: Path) -> None:
    editor = Editor(file, "demo")
    editor.set(editor.source, "tag", "v1.1")
    editor.set(editor.package, "version", "1.1")
    editor.save()
