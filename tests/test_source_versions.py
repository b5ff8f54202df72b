import pytest

from kiln.source.versions import Scheme, belongs, in_address, in_order, of_archive, of_debian, of_tags


@pytest.mark.parametrize(
    ("tag", "version", "other", "expected"),
    [
        ("v1.2.6", "1.2.6", "v1.2.7", "1.2.7"),
        ("v1.2.6", "1.2.6", "v1.3", "1.3"),
        ("v1.2.6", "1.2.6", "v1.3-rc1", None),
        ("v1.2.6", "1.2.6", "1.3.0", None),
        ("v1.2.6", "1.2.6", "v2", None),
        ("v1.2.6", "1.2.6", "v1.3.0-signed", None),
        ("1_37_0", "1.37.0", "1_38_0", "1.38.0"),
        ("1_37_0", "1.37.0", "20260101", None),
        ("V_10_0_P2", "10.0p2", "V_10_1_P1", "10.1p1"),
        ("V_10_0_P2", "10.0p1", "V_10_1_P1", "10.1p1"),
        ("20250605", "20250605", "20260101", "20260101"),
        ("20250605", "20250605", "s20200821", None),
        ("DROPBEAR_2025.89", "2025.89", "DROPBEAR_2026.1", "2026.1"),
        ("lz4-1.9", "1.9", "lz4-1.10", "1.10"),
        ("release-7.2-final", "7.2", "release-7.3-final", "7.3"),
    ],
)
def test_a_tag_is_read_as_the_present_one_is_made(tag: str, version: str, other: str, expected: str | None) -> None:
    scheme = Scheme.of(tag, version)
    assert scheme
    assert scheme.version(other) == expected


def test_a_tag_that_has_nothing_of_the_version_says_nothing() -> None:
    assert Scheme.of("v2.0.1.5", "1.9") is None
    assert Scheme.of("latest", "1.9") is None


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1.10", "1.9", "1.9.1"], ["1.9", "1.9.1", "1.10"]),
        (["2.0rc1", "1.9", "2.0.dev3", "2.0-beta"], ["1.9"]),
        (["10.0p2", "9.9p1", "10.0p1"], ["9.9p1", "10.0p1", "10.0p2"]),
        (["2025b", "2025a", "2024b"], ["2024b", "2025a", "2025b"]),
        (["059", "112", "106"], ["059", "106", "112"]),
    ],
)
def test_releases_are_in_order(versions: list[str], expected: list[str]) -> None:
    assert in_order(versions) == expected


def test_a_series_holds_what_begins_with_it() -> None:
    assert belongs("6.1.176", "6.1")
    assert belongs("6.1", "6.1")
    assert not belongs("6.12.1", "6.1")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/nano-7.2.tar.xz", "https://a.example/nano-8.4.tar.xz"),
        ("https://a.example/v7.2/v7.2.tar.gz", "https://a.example/v8.4/v8.4.tar.gz"),
        ("https://a.example/v7.x/nano-7.2.tar.xz", "https://a.example/v8.x/nano-8.4.tar.xz"),
        ("https://7.2.7.2/nano-7.20.tar.xz", None),
        ("https://a.example/latest.tar.gz", None),
    ],
)
def test_the_address_of_another_version(url: str, expected: str | None) -> None:
    assert in_address(url, "7.2", "8.4") == expected


def test_folders_of_a_series_follow() -> None:
    url = "https://a.example/v2.41/util-linux-2.41.5.tar.xz"
    assert in_address(url, "2.41.5", "2.42") == "https://a.example/v2.42/util-linux-2.42.tar.xz"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nano-7.2.tar.xz", "7.2"),
        ("v1.3.1.tar.gz", "1.3.1"),
        ("nano_7.2.orig.tar.xz", "7.2"),
        ("openssh-10.0p1.tar.gz", "10.0p1"),
        ("tool-2-1.5.tgz", "1.5"),
        ("main.tar.gz", None),
    ],
)
def test_the_version_in_an_archives_name(name: str, expected: str | None) -> None:
    assert of_archive(name) == expected


def test_what_debian_says_of_its_own_changes_is_no_version() -> None:
    assert of_debian("6.3.0+dfsg") == "6.3.0"
    assert of_debian("1.3.dfsg+really1.3.1") == "1.3.1"
    assert of_debian("0.18+ds") == "0.18"
    assert of_debian("7.2") == "7.2"


def test_releases_among_many_tags() -> None:
    tags = ["v1.0", "v1.1", "v1.2-rc1", "old-1", "nightly", "2020"]
    assert of_tags(tags) == {"1.0": "v1.0", "1.1": "v1.1"}
    assert of_tags(["V_10_0_P2"]) == {"10.0p2": "V_10_0_P2"}
