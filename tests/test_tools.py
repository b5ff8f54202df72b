import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import digest, sandbox
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.store import Store
from kiln.tools import Tools

DECLARATION = """
release = "bookworm"
exclude = ["usr/share/doc/"]

[files]
"etc/passwd" = "root:x:0:0::/:/bin/sh\\n"

[links]
"usr/bin/sh" = "dash"
"usr/bin/gone" = "nothing"

[sets.one]
packages = ["a"]

[sets.one.links]
"usr/bin/cc" = "gcc-12"

[sets.two]
packages = ["b"]
"""

Member = tuple[str, dict[str, Any], bytes]


def ar(**members: bytes) -> bytes:
    """An ``ar`` archive; underscores of the names stand for dots."""
    out = b"!<arch>\n"
    for name, data in members.items():
        header = f"{name.replace('_', '.'):<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        out += header.encode() + data + b"\n" * (len(data) % 2)
    return out


def tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, fields, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def deb(*members: Member) -> bytes:
    # The odd length in front makes sure that members are found on even offsets.
    return ar(debian_binary=b"2.0\n", control_tar_xz=b"odd", data_tar_xz=lzma.compress(tar(*members)))


def file(name: str, mode: int = 0o644, data: bytes = b"data") -> Member:
    return name, {"mode": mode, "uid": 1, "gid": 2, "mtime": 3}, data


def folder(name: str) -> Member:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755}, b""


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return name, {"type": kind, "linkname": target}, b""


class Bench:
    """Tools of two sets, whose packages lie in the download folder already."""

    def __init__(self, root: Path) -> None:
        self.lock = root / "tools.lock"
        self.settings = Settings.read(root, {})
        self._declaration = root / "tools.toml"
        self._declaration.write_text(DECLARATION)
        self._rows: list[dict[str, Any]] = []
        (self.settings.downloads / "debian").mkdir(parents=True)

    def add(self, name: str, data: bytes, *sets: str) -> None:
        sha256, path = digest.of_bytes(data).hash, f"pool/{name}_1_amd64.deb"
        (self.settings.downloads / "debian" / f"{sha256[:12]}-{name}_1_amd64.deb").write_bytes(data)
        row = {"name": name, "version": "1", "path": path, "sha256": sha256, "sets": sets}
        self._rows = [*(row for row in self._rows if row["name"] != name), row]
        self.lock.write_text(json.dumps(self._rows))

    def tools(self) -> Tools:
        return Tools(self.settings, Store(self.settings.store), self._declaration, self.lock)

    def unpack(self, data: bytes) -> Path:
        self.add("a", data, "one")
        tree = self.tools()["one"]
        tree.build()
        return tree.built().root


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_tree_is_made_of_packages_files_links_and_mount_points(bench: Bench) -> None:
    bench.add("a", deb(folder("./"), folder("./usr"), file("./usr/bin/dash", 0o755), file("./usr/bin/gcc-12")), "one")
    bench.add("b", deb(file("./usr/bin/b")), "two")
    bench.add("c", deb(file("./usr/share/c"), file("./usr/share/doc/c/copyright")), "one", "two")
    tree = bench.tools()["one"]
    tree.build()
    root = tree.built().root
    assert (root / "usr/bin/dash").read_bytes() == b"data"
    assert (root / "usr/bin/sh").readlink() == Path("dash")
    assert (root / "usr/bin/cc").readlink() == Path("gcc-12")
    assert not (root / "usr/bin/gone").is_symlink()
    assert not (root / "usr/bin/b").exists()
    assert (root / "usr/share/c").exists()
    assert not (root / "usr/share/doc").exists()
    assert (root / "etc/passwd").read_text() == "root:x:0:0::/:/bin/sh\n"
    assert {"build", "dest", "src", "sysroot", "proc", "dev", "tmp"} < {path.name for path in root.iterdir()}
    assert "2 of 2 packages" in tree.built().log.read_text()


def test_top_folders_are_merged_into_usr(bench: Bench) -> None:
    members = file("./bin/a", 0o755), file("lib/b"), file("/sbin/c", 0o755), file("lib64/d"), file("opt/e")
    root = bench.unpack(deb(folder("./bin"), folder("./lib"), *members))
    for name in ("bin", "lib", "lib64", "sbin"):
        assert (root / name).readlink() == Path(f"usr/{name}")
    for name in ("usr/bin/a", "usr/lib/b", "usr/sbin/c", "usr/lib64/d", "opt/e"):
        assert (root / name).read_bytes() == b"data"


def test_links_of_both_kinds_are_kept(bench: Bench) -> None:
    members = file("./bin/a"), link("./bin/b", "./bin/a", tarfile.LNKTYPE), link("./bin/c", "/etc/alternatives/c")
    root = bench.unpack(deb(*members))
    assert (root / "usr/bin/b").samefile(root / "usr/bin/a")
    assert (root / "usr/bin/c").readlink() == Path("/etc/alternatives/c")


def test_special_bits_owners_and_devices_are_dropped(bench: Bench) -> None:
    device = "./dev/null", {"type": tarfile.CHRTYPE, "mode": 0o666}, b""
    root = bench.unpack(deb(file("./bin/su", 0o4755), file("./bin/wall", 0o2711), file("./secret", 0o600), device))
    for path, mode in (("usr/bin/su", 0o100555), ("usr/bin/wall", 0o100555), ("secret", 0o100444)):
        info = (root / path).stat()
        assert (info.st_mode, info.st_uid) == (mode, root.parent.stat().st_uid)
    assert not (root / "dev/null").exists()


@pytest.mark.parametrize("name", ["../x", "./usr/../../x", "/../x", "usr/bin/../../../x"])
def test_a_path_that_leads_outside_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(KilnError, match="which leads outside"):
        bench.unpack(deb(file(name)))
    assert not list(bench.settings.store.rglob("x"))


def test_a_hard_link_to_the_outside_is_refused(bench: Bench) -> None:
    with pytest.raises(KilnError, match="which leads outside"):
        bench.unpack(deb(link("./a", "../../../../../etc/passwd", tarfile.LNKTYPE)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>not found</html>", "a_1_amd64.deb: is not a Debian package"),
        (ar(debian_binary=b"2.0\n"), "a_1_amd64.deb: holds no data.tar.xz"),
        (ar(debian_binary=b"2.0\n", data_tar_zst=b"zstd"), "a_1_amd64.deb: holds no data.tar.xz"),
    ],
)
def test_what_is_no_package_is_told_by_its_name(bench: Bench, data: bytes, message: str) -> None:
    with pytest.raises(KilnError, match=message):
        bench.unpack(data)


@pytest.mark.parametrize(
    "text",
    [None, "", "[", "{}x", "[1]", '[{"name": "a"}]', '[{"sets": 3}]', '[{"sets": [], "colour": "red"}]', "null"],
)
def test_a_lock_that_cannot_be_read_is_told_with_the_remedy(bench: Bench, text: str | None) -> None:
    if text is not None:
        bench.lock.write_text(text)
    with pytest.raises(KilnError, match="tools:lock") as caught:
        bench.tools()["one"].key()
    assert caught.value.where == str(bench.lock)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda bench: bench.add("a", deb(file("./new")), "one"), {"one"}),
        (lambda bench: bench.add("c", deb(file("./new")), "one", "two"), {"one", "two"}),
        (lambda bench: bench.add("d", deb(), "two"), {"two"}),
        (lambda bench: bench.add("e", deb()), set()),
    ],
    ids=["of one", "shared", "added", "of none"],
)
def test_a_package_changes_the_keys_of_its_sets_alone(
    bench: Bench, change: Callable[[Bench], None], changed: set[str]
) -> None:
    for name, sets in (("a", ["one"]), ("b", ["two"]), ("c", ["one", "two"])):
        bench.add(name, deb(file(f"./{name}")), *sets)
    before = {tree.id: tree.key() for tree in bench.tools()}
    change(bench)
    assert {tree.id for tree in bench.tools() if tree.key() != before[tree.id]} == {f"tools:{name}" for name in changed}


def test_all_that_a_tree_follows_from(bench: Bench) -> None:
    bench.add("a", deb(), "one")
    bench.add("b", deb(), "two")
    content = bench.tools().content("one")
    assert content.pop("packages") == {"a": digest.of_bytes(deb()).hash}
    assert content == {
        "links": {"usr/bin/sh": "dash", "usr/bin/gone": "nothing", "usr/bin/cc": "gcc-12"},
        "files": {"etc/passwd": "root:x:0:0::/:/bin/sh\n"},
        "exclude": ["usr/share/doc/"],
        "folders": list(sandbox.MOUNT_POINTS),
    }


def test_two_machines_make_the_same_tree(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        digests.add(digest.of_tree(bench.unpack(deb(file("./bin/a", 0o755), link("./bin/b", "a")))))
    assert len(digests) == 1


def test_the_lock_of_this_project_pins_all_that_is_declared(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path, {})
    tools = Tools(settings, Store(settings.store))
    for tree in tools:
        assert tools.content(tree.id.removeprefix("tools:"))["packages"]
