from collections.abc import Callable

import pytest

from kiln import KilnError
from kiln.source.pins import Archive, Debian, Git, Variant, variants

COMMIT = "1" * 40
SHA = "a" * 64
ONE, TWO = "b" * 64, "c" * 64


def git(**changes: object) -> Git:
    fields = {"url": "https://example.org/x", "tag": "v1", "commit": COMMIT, "content": f"sha256:{ONE}"} | changes
    return Git(fields.pop("url"), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: git(commit="12ab"), ["Git('https://example.org/x')", "commit is '12ab'", "40 hexadecimal digits"]),
        (lambda: git(commit=COMMIT.upper()[:-1] + "A"), ["commit is", "lower case"]),
        (lambda: git(tag=""), ["tag is ''", "the name of a tag"]),
        (lambda: git(tag="--upload-pack=x"), ["tag is '--upload-pack=x'"]),
        (lambda: git(url=""), ["Git('')", "url is ''", "a URL"]),
        (lambda: git(content=ONE), ["content is", "'sha256:' and 64"]),
        (lambda: git(content=None), ["content is None", "'sha256:' and 64"]),
        (lambda: git(mirrors=["x"]), ["mirrors has 'x'", "expected Archive or Debian"]),
        (lambda: git(mirrors=[git()]), ["mirrors has Git(", "expected Archive or Debian"]),
        (lambda: Archive("https://example.org/x.tar", sha256="abc"), ["sha256 is 'abc'", "64 hexadecimal digits"]),
        (lambda: Archive("x.tar", sha256=SHA), ["url is 'x.tar'", "a URL"]),
        (lambda: Debian("pool/x_1.orig.tar.gz", sha256=SHA), ["file is 'pool/x_1.orig.tar.gz'", "a file name"]),
        (lambda: Debian("x1_1_all.deb", sha256=SHA, component="nonfree"), ["component is 'nonfree'", "non-free-firmw"]),
        (lambda: Debian("x1_1.orig.tar.gz", sha256=SHA, content=ONE), ["content is", "'sha256:' and 64"]),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(make: Callable[[], object], parts: list[str]) -> None:
    with pytest.raises(KilnError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_mirrors_of_the_same_files_belong_to_one_variant() -> None:
    same = Debian("x1_1.orig.tar.gz", sha256=SHA)
    repack = Debian("x1_1+dfsg.orig.tar.gz", sha256=SHA, content=f"sha256:{TWO}")
    named = Archive("https://example.org/x.tar", sha256=SHA, content=f"sha256:{ONE}")
    source = git(mirrors=[same, repack, named])
    assert variants(source) == (Variant(ONE, (source, same, named)), Variant(TWO, (repack,)))


def test_an_archive_without_content_does_not_share_a_variant_with_a_pinned_mirror() -> None:
    repack = Debian("x1_1.orig.tar.gz", sha256=SHA, content=f"sha256:{TWO}")
    source = Archive("https://example.org/x.tar", sha256=SHA, mirrors=[repack])
    assert variants(source) == (Variant(None, (source,)), Variant(TWO, (repack,)))


def test_a_debian_file_is_a_source_of_its_own() -> None:
    source = Debian("x1_1.orig.tar.gz", sha256=SHA)
    assert variants(source) == (Variant(None, (source,)),)


def test_pins_are_values() -> None:
    mirror = Debian("x1_1.orig.tar.gz", sha256=SHA)
    assert len({git(mirrors=[mirror]), git(mirrors=(mirror,))}) == 1


@pytest.mark.parametrize("url", ["https://example.org/a/x-1.tar.gz", "https://example.org/x-1.tar.gz?raw=1#top"])
def test_an_archive_knows_its_file_name(url: str) -> None:
    assert Archive(url, sha256=SHA).file == "x-1.tar.gz"
