import pytest

from kiln.errors import KilnError, nearest


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KilnError("what"), "what"),
        (KilnError("what", where="file:3"), "file:3: what"),
        (KilnError("what", hint="do this"), "what\n  do this"),
        (KilnError("what", where="file:3", hint="do this"), "file:3: what\n  do this"),
    ],
)
def test_an_error_says_where_what_and_what_to_do(error: KilnError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("busibox", ["linux", "busybox"], "did you mean busybox?"),
        ("musk", ["mask", "musl"], "did you mean musl or mask?"),
        ("zzz", ["linux", "busybox"], "known: busybox, linux"),
        ("zzz", [], "known: none"),
    ],
)
def test_the_nearest_names_or_all_of_them(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint
