import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.source import download as module
from kiln.source.download import download
from tests.servers import Server, serve

DATA = os.urandom(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "TIMEOUTS", (2.0, 0.3))
    with serve() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads/x.tar.gz"


def ranges(server: Server) -> list[str | None]:
    return [span for _, span in server.asked]


def left(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


def test_a_file_comes_whole_and_tells_how_far_it_is(server: Server, path: Path) -> None:
    server.add("/x", DATA)
    steps: list[tuple[int, int | None]] = []
    download(f"{server.url}/x", path, sha256=SHA, report=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == DATA
    assert left(path) == ["x.tar.gz"]
    assert steps[-1] == (len(DATA), len(DATA))
    assert steps == sorted(steps)


def test_several_at_once_bring_one_file_between_them(server: Server, path: Path) -> None:
    server.add("/x", DATA)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(download, f"{server.url}/x", path, sha256=SHA) for _ in range(8)]
        for job in jobs:
            job.result()
    assert path.read_bytes() == DATA
    assert left(path) == ["x.tar.gz"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("form", ["path", "url", "quoted url"])
def test_a_local_file_is_copied(tmp_path: Path, path: Path, form: str) -> None:
    source = tmp_path / ("with space" if form == "quoted url" else "x~1+2")
    source.write_bytes(DATA)
    download(str(source) if form == "path" else source.as_uri(), path, sha256=SHA)
    assert path.read_bytes() == source.read_bytes() == DATA
    assert left(path) == ["x.tar.gz"]


def test_a_missing_local_file_is_an_error(tmp_path: Path, path: Path) -> None:
    with pytest.raises(KilnError, match="none: No such file or directory"):
        download(str(tmp_path / "none"), path, sha256=SHA)


@pytest.mark.parametrize("status", [404, 403, 503])
def test_a_refusal_is_told(server: Server, path: Path, status: int) -> None:
    server.add("/x", DATA).faults += [f"status {status}"] * 9
    with pytest.raises(KilnError, match=f"/x: the server answered {status}"):
        download(f"{server.url}/x", path, sha256=SHA)
    assert left(path) == []


def test_a_server_that_is_busy_is_asked_again(server: Server, path: Path) -> None:
    server.add("/x", DATA).faults += ["status 503", "status 429"]
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA


def test_wrong_bytes_are_thrown_away(server: Server, path: Path) -> None:
    server.add("/x", b"other")
    with pytest.raises(KilnError) as caught:
        download(f"{server.url}/x", path, sha256=SHA)
    got = hashlib.sha256(b"other").hexdigest()
    assert str(caught.value) == f"{server.url}/x: sha256 is {got}, expected {SHA}"
    assert left(path) == []


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_transfer_that_breaks_off_is_taken_up_where_it_ended(server: Server, path: Path, fault: str) -> None:
    server.add("/x", DATA).faults += [f"{fault} 1000", f"{fault} 200000"]
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=1000-", "bytes=201000-"]


def test_without_ranges_it_starts_over(server: Server, path: Path) -> None:
    file = server.add("/x", DATA)
    file.ranges, file.faults = False, ["cut 1000"]
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    ("etag", "modified", "resumes"),
    [
        (None, "Fri, 20 Nov 2026 10:00:00 GMT", True),
        ('W/"one"', "Fri, 20 Nov 2026 10:00:00 GMT", True),
        ('W/"one"', None, False),
        (None, None, False),
    ],
)
def test_only_what_has_a_sure_name_is_taken_up(
    server: Server, path: Path, etag: str | None, modified: str | None, resumes: bool
) -> None:
    file = server.add("/x", DATA)
    file.etag, file.modified, file.faults = etag, modified, ["cut 1000"]
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=1000-" if resumes else None]


def test_a_file_that_changed_in_between_is_taken_from_the_start(server: Server, path: Path) -> None:
    old = server.add("/x", b"old" * 2000)
    old.faults += ["cut 600"] * 5
    with pytest.raises(KilnError, match="broke off 5 times: 3000 bytes came"):
        download(f"{server.url}/x", path, sha256=SHA)
    server.add("/x", DATA).etag = '"two"'
    server.asked.clear()
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server) == ["bytes=3000-"]


def test_a_later_call_goes_on_but_another_url_does_not(server: Server, path: Path) -> None:
    for name in ("/x", "/y"):
        server.add(name, DATA).faults += ["cut 1000"] * 5
    with pytest.raises(KilnError, match="broke off 5 times: 5000 bytes came, then: Connection broken"):
        download(f"{server.url}/x", path, sha256=SHA)
    assert len(left(path)) == 2
    server.asked.clear()
    download(f"{server.url}/x", path, sha256=SHA)
    assert ranges(server) == ["bytes=5000-"]
    path.unlink()
    with pytest.raises(KilnError):
        download(f"{server.url}/y", path, sha256=SHA)
    server.asked.clear()
    download(f"{server.url}/x", path, sha256=SHA)
    assert ranges(server) == [None]
    assert path.read_bytes() == DATA


def test_another_range_than_the_one_asked_for_is_not_used(server: Server, path: Path) -> None:
    server.add("/x", DATA).faults += ["cut 1000", "shift"]
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=1000-", None]


def test_a_range_past_the_end_starts_over(server: Server, path: Path) -> None:
    file = server.add("/x", DATA)
    file.faults += ["cut 100000"] * 5
    with pytest.raises(KilnError):
        download(f"{server.url}/x", path, sha256="0" * 64)
    assert left(path) == []
    file.faults = ["cut 200000"] + ["cut 10"] * 4
    with pytest.raises(KilnError):
        download(f"{server.url}/x", path, sha256=SHA)
    part = next(path.parent.glob("*.part"))
    part.write_bytes(part.read_bytes() + bytes(len(DATA)))
    server.asked.clear()
    download(f"{server.url}/x", path, sha256=SHA)
    assert path.read_bytes() == DATA
    assert ranges(server)[1:] == [None]


def test_two_pins_of_one_name_do_not_mix(server: Server, path: Path) -> None:
    server.add("/x", DATA).faults += ["cut 1000"] * 5
    with pytest.raises(KilnError):
        download(f"{server.url}/x", path, sha256="0" * 64)
    server.asked.clear()
    download(f"{server.url}/x", path, sha256=SHA)
    assert ranges(server) == [None]


def test_a_server_that_is_not_there_is_an_error(path: Path) -> None:
    with serve() as gone:
        url = gone.url
    with pytest.raises(KilnError, match="Connection refused"):
        download(f"{url}/x", path, sha256=SHA)


def test_a_name_that_does_not_resolve_is_an_error(path: Path) -> None:
    with pytest.raises(KilnError, match=r"^http://nowhere\.invalid/x: Failed to resolve"):
        download("http://nowhere.invalid/x", path, sha256=SHA)


def test_a_damaged_url_is_an_error(path: Path) -> None:
    with pytest.raises(KilnError, match="Invalid IPv6 URL"):
        download("http://[x", path, sha256=SHA)


def test_an_unknown_kind_of_url_is_an_error(path: Path) -> None:
    with pytest.raises(KilnError, match=r"gopher://example\.org/x: No connection adapters"):
        download("gopher://example.org/x", path, sha256=SHA)


@pytest.mark.parametrize("local", [True, False])
def test_a_full_disk_is_an_error_with_a_hint(server: Server, tmp_path: Path, path: Path, local: bool) -> None:
    server.add("/x", DATA)
    (tmp_path / "x").write_bytes(DATA)
    path.parent.mkdir()
    path.with_name(f"{path.name}.{SHA[:12]}.part").symlink_to("/dev/full")
    with pytest.raises(KilnError) as caught:
        download(str(tmp_path / "x") if local else f"{server.url}/x", path, sha256=SHA)
    assert "No space left on device" in str(caught.value)
    assert "KILN_DOWNLOADS" in str(caught.value)


def test_a_server_that_stays_silent_is_given_up(server: Server, path: Path) -> None:
    server.add("/x", DATA).faults += ["stall 0"] * 9
    with pytest.raises(KilnError, match="broke off 5 times: 0 bytes came, then: Read timed out"):
        download(f"{server.url}/x", path, sha256=SHA)
