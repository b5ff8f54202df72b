from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.source.debian import archives, pool_path


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_the_setting_comes_before_apts(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    assert archives("http://a.example/debian/  file:///srv/b", apt=apt) == ("http://a.example/debian", "file:///srv/b")


def test_one_line_entries_are_read(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://comment.example/debian bookworm main\n"
        "deb http://safe.example/debian-security bookworm-security main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian/ bookworm main contrib # comment\n"
        "deb-src http://one.example/debian bookworm main\n"
        "deb http://one.example/debian bookworm-updates main\n"
    )
    (apt / "sources.list.d/other.list").write_text(
        "deb http://two.example/debian sid main\n"
        "deb http://shop.example/apt bookworm stable\n"
        "deb http://flat.example/apt ./\n"
        "deb http://shop.example/apt jammy main\n"
    )
    (apt / "sources.list.d/old.list.save").write_text("deb http://old.example/debian bookworm main\n")
    assert archives(None, apt=apt) == (
        "http://one.example/debian",
        "http://two.example/debian",
        "http://safe.example/debian-security",
    )


def test_stanzas_are_read(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(
        "Types: deb\n"
        "URIs: http://safe.example/debian-security\n"
        "Suites: trixie-security\n"
        "Components: main\n"
        "\n"
        "Types: deb deb-src\n"
        "# snapshot\n"
        "URIs: http://one.example/debian\n"
        " http://two.example/debian/\n"
        "Suites: trixie trixie-updates\n"
        "Components: main contrib\n"
        "Signed-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        " .\n"
        "\n"
        "Enabled: no\n"
        "Types: deb\n"
        "URIs: http://off.example/debian\n"
        "Suites: trixie\n"
        "Components: main\n"
    )
    assert archives(None, apt=apt) == (
        "http://one.example/debian",
        "http://two.example/debian",
        "http://safe.example/debian-security",
    )


def test_no_archive_is_an_error_with_a_hint(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://shop.example/apt jammy main\n")
    with pytest.raises(KilnError, match="set KILN_DEBIAN"):
        archives(None, apt=apt)


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("linux_6.1.176.orig.tar.xz", "pool/main/l/linux/linux_6.1.176.orig.tar.xz"),
        ("libaio_0.3.113.orig.tar.gz", "pool/main/liba/libaio/libaio_0.3.113.orig.tar.gz"),
        ("gmp_6.3.0+dfsg.orig.tar.xz", "pool/main/g/gmp/gmp_6.3.0+dfsg.orig.tar.xz"),
    ],
)
def test_where_an_archive_keeps_a_file(file: str, place: str) -> None:
    assert pool_path(file) == place
    assert pool_path(file, security=True) == place.replace("pool/", "pool/updates/")
    assert pool_path(file, component="non-free-firmware") == place.replace("main/", "non-free-firmware/")
