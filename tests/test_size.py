"""What `doit size` says an image is made of: every byte, once."""

import json
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln import linkmap
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.image import cpio, disk, ext4, fat, squashfs, tar
from kiln.image.manifest import Manifest, file_node
from kiln.report import kernel, treemap
from kiln.report.breakdown import Part, compare, folders, shares
from kiln.report.size import KERNEL, ROOT, human, measure, render
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.tools import Tools
from kiln.verbs.size import size as doit_size
from tests.project import Project
from tests.rootfs import sample
from tests.test_diff import image

ROOT_FOLDER = Path(__file__).parent.parent
EVIL = "</script><img src=x onerror=alert(1)>\"'&"


def names(part: Part) -> dict[str, int]:
    return {inner.name: inner.size for inner in part.parts}


def ends(part: Part) -> Iterator[Part]:
    if not part.parts:
        yield part
    for inner in part.parts:
        yield from ends(inner)


def no_packer(packer: str, _data: memoryview) -> bytes:
    raise AssertionError(packer)


def take_apart(path: Path, manifest: Manifest, sandbox: Sandbox | None = None) -> Part:
    """The parts of one file, whose sizes add up."""

    def unpack(packer: str, data: memoryview) -> bytes:
        assert sandbox
        return sandbox.run([packer, "-dc"], input=bytes(data))

    _, found = measure({node.path: node for node in manifest.nodes}, [path], unpack)
    assert found.name == path.name
    assert found.size == path.stat().st_size == sum(part.size for part in ends(found))
    return found


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (-1500, "-1.5 kB")],
)
def test_sizes_as_people_read_them(size: int, said: str) -> None:
    assert human(size) == said


def test_parts_add_up_and_what_is_left_has_a_name() -> None:
    part = Part.of(
        "all", 10, [Part(name="a", size=3), Part(name="b", size=5), Part(name="nothing", size=0)], rest="gap"
    )
    assert names(part) == {"b": 5, "a": 3, "gap": 2}
    assert Part.of("all", 10, [], rest="gap").parts == ()
    with pytest.raises(ValueError, match="do not add up to -3 bytes"):
        Part.of("all", 7, part.parts, rest="gap")


def test_shares_are_whole_bytes_and_add_up() -> None:
    found = shares(1000, {"a": 1, "b": 1, "c": 1})
    assert sum(found.values()) == 1000 and set(found.values()) == {333, 334}


def test_folders_are_as_deep_as_paths() -> None:
    (drivers, init) = folders(
        {"drivers/net/tun.o": 3, "drivers/net/veth.o": 4, "drivers/tty/tty.o": 5, "init/main.o": 1}
    )
    assert names(drivers) == {"net": 7, "tty": 5} and names(drivers.parts[0]) == {"veth.o": 4, "tun.o": 3}
    assert names(init) == {"main.o": 1}


def test_archives_that_are_not_packed(tmp_path: Path) -> None:
    cpio.write(sample(), tmp_path / "rootfs.cpio")
    tar.write(sample(), tmp_path / "rootfs.tar")
    for name, header in {"rootfs.cpio": 110, "rootfs.tar": 512}.items():
        found = take_apart(tmp_path / name, sample())
        assert set(names(found)) == {"sample", "root folder and end of the archive"}
        (files,) = (part for part in found.parts if part.name == "sample")
        assert set(names(files)) == {f"/{node.path}" for node in sample().nodes}
        assert 9004 + header <= names(files)["/bin/su"] <= 9004 + header + 1024
        assert not any(part.about for part in ends(found))


@pytest.mark.sandbox
@pytest.mark.parametrize("packer", [("zstd", "-q", "-10", "--long=24"), ("xz",), ("gzip",), ("lz4", "-l")])
def test_packed_archives(packer: tuple[str, ...], tmp_path: Path, image_sandbox: Sandbox) -> None:
    # More than one block of zstd: what cannot be packed, and what can.
    dense = b"".join(struct.pack(">Q", pow(3, index, 2**61 - 1)) for index in range(50_000))
    nodes = [file_node("dense", dense, package="a"), file_node("empty", bytes(1 << 20), package="b")]
    manifest = Manifest.merge([("a", nodes[:1]), ("b", nodes[1:])])
    plain, path = tmp_path / "rootfs.cpio", tmp_path / "rootfs.cpio.packed"
    cpio.write(manifest, plain)
    path.write_bytes(image_sandbox.run([*packer, "-c"], input=plain.read_bytes()))
    found = take_apart(path, manifest, image_sandbox)
    assert all(part.about for part in found.parts if part.name in ("a", "b"))
    if packer[0] == "zstd":
        assert names(found)["a"] > 0.95 * path.stat().st_size
    else:
        assert names(found)["a"] == pytest.approx(path.stat().st_size * len(dense) / plain.stat().st_size, rel=0.01)


def test_what_lies_in_an_archive_and_not_in_the_root_file_system(tmp_path: Path) -> None:
    other = Manifest.merge([("a", [file_node("init", b"own", package="a"), file_node("bin/sh", b"same", package="a")])])
    cpio.write(other, tmp_path / "initramfs.cpio")
    nodes = [file_node("init", b"OWN", package="init"), file_node("bin/sh", b"same", package="busybox")]
    found = take_apart(tmp_path / "initramfs.cpio", Manifest.merge([(node.package, [node]) for node in nodes]))
    assert {part.name: set(names(part)) for part in found.parts[:2]} == {
        "busybox": {"/bin", "/bin/sh"}, "(not in the root file system)": {"/init"},
    }  # fmt: skip


@pytest.mark.sandbox
def test_ext4(tmp_path: Path, image_sandbox: Sandbox) -> None:
    path, scratch = tmp_path / "rootfs.ext4", tmp_path / "scratch"
    scratch.mkdir()
    big = file_node("big", b"\1" * 3_000_000, package="big")
    manifest = Manifest.merge([("sample", list(sample().nodes)), ("big", [big])])
    ext4.write(manifest, path, sandbox=image_sandbox, scratch=scratch, size=None, uuid=str(uuid.UUID(int=7)))
    found = take_apart(path, manifest)
    assert names(found)["big"] == -(-3_000_000 // 4096) * 4096
    assert names(next(part for part in found.parts if part.name == "sample"))["/etc/shadow"] == 4096
    dump = image_sandbox.with_mounts([Mount(source=tmp_path, target="/work")]).run(
        ["dumpe2fs", "-h", "/work/rootfs.ext4"]
    )
    free = re.search(rb"Free blocks: +(\d+)", dump)
    assert free and names(found)["free"] == int(free[1]) * 4096
    assert names(found)["journal"] >= 1 << 20
    assert names(found)["tables and folders of its own"] < path.stat().st_size / 8


@pytest.mark.sandbox
def test_disks_and_boot_partitions(tmp_path: Path, image_sandbox: Sandbox) -> None:
    boot, whole = tmp_path / "boot.fat", tmp_path / "disk.img"
    cpio.write(sample(), tmp_path / "initrd")
    files: dict[str, Path | bytes] = {"EFI/BOOT/BOOTX64.EFI": b"MZ" + bytes(70_000), "a long name": tmp_path / "initrd"}
    fat.write(files, boot, sandbox=image_sandbox, label="BOOT", serial=7)
    found = take_apart(boot, sample())
    assert names(found)["/EFI/BOOT/BOOTX64.EFI"] == 70_002
    inner = next(part for part in found.parts if part.name == "/a long name")
    assert "sample" in names(inner)
    parts = [disk.Partition(content=boot, kind="efi", name="esp"), disk.Partition(content=boot, kind="fat16", name="b")]
    disk.write_gpt(whole, parts, guid=uuid.UUID(int=9))
    assert set(names(take_apart(whole, sample()))) == {"esp", "b", "partition table, boot code and alignment"}
    disk.write_mbr(whole, parts[1:], signature=7, boot_code=b"")
    found = take_apart(whole, sample())
    assert names(found) == {"partition 1": whole.stat().st_size - (1 << 20), found.parts[1].name: 1 << 20}


@pytest.mark.sandbox
def test_what_lies_in_one_another(tmp_path: Path, image_sandbox: Sandbox) -> None:
    layer, folder = tmp_path / "layer.tar", tmp_path / "cd/blobs"
    folder.mkdir(parents=True)
    tar.write(sample(), layer)
    blob = file_node("blobs/a long name of a layer", layer.read_bytes(), package="")
    tar.write(Manifest.merge([("", [blob])]), folder / "container.tar")
    inside = image_sandbox.with_mounts([Mount(source=tmp_path, target="/work", writable=True)])
    inside.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", "/work/live.iso", "/work/cd"])
    found = take_apart(tmp_path / "live.iso", sample())
    assert set(names(found)) == {"/blobs/container.tar", "boot sectors, tables and padding"}
    container = next(part for part in found.parts if part.parts)
    assert container.size == (folder / "container.tar").stat().st_size
    assert names(container)["/blobs/a long name of a layer"] >= layer.stat().st_size
    inner = next(part for part in container.parts if part.parts)
    assert "/bin/su" in names(next(part for part in inner.parts if part.name == "sample"))


@pytest.mark.sandbox
def test_programs_of_uefi(image_sandbox: Sandbox) -> None:
    stub = image_sandbox.root / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    found = names(take_apart(stub, sample()))
    rows = image_sandbox.run(["objdump", "-h", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"]).decode().split("\n")
    sections = {words[1]: int(words[2], 16) for row in rows if (words := row.split()) and words[0].isdigit()}
    assert sections and sections.items() <= found.items()


@pytest.mark.sandbox
def test_file_systems_that_are_only_read(tmp_path: Path, image_sandbox: Sandbox) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    squashfs.write(sample(), tmp_path / "rootfs.squashfs", sandbox=image_sandbox, scratch=scratch)
    found = take_apart(tmp_path / "rootfs.squashfs", sample())
    assert {"packed files", "tables of files and folders"} < set(names(found))
    assert [part.name for part in found.parts if part.name == "packed files" and part.parts[0].name == "sample"]


@pytest.mark.parametrize("size", [0, 1, 600, 40_000])
@pytest.mark.parametrize(
    ("place", "magic"),
    [(0, b"\x07"), (510, b"\x55\xaa"), (514, b"HdrS"), (1080, b"\x53\xef"), (32769, b"CD001"), (54, b"FAT16"),
     (0, b"070701"), (257, b"ustar"), (0, b"hsqs"), (0, b"MZ"), (0, b"\x7fELF"), (1024, b"\xe2\xe1\xf5\xe0")],
)  # fmt: skip
def test_what_only_begins_like_something_is_one_part(size: int, place: int, magic: bytes, tmp_path: Path) -> None:
    for filler in (b"\0", b"\xff"):
        data = bytearray(filler * size)
        data[place : place + len(magic)] = magic[: max(size - place, 0)]
        (tmp_path / "file").write_bytes(data[:size])
        tracemalloc.start()
        take_apart(tmp_path / "file", sample())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 10_000_000


LINKED = {
    "main.c": 'extern int twice(int); const char words[5000] = "a"; static int zeros[4000];\n'
    "int main(void) { return twice(zeros[3]) + words[1]; }\nvoid _start(void) { main(); }\n",
    "lib/twice.c": "int twice(int one) { return one * 2; }\nint table[1000] = {1};\n",
}


@pytest.mark.sandbox
def test_a_linkers_map_tells_what_comes_from_which_object(tmp_path: Path, tools: Tools) -> None:
    mount = Mount(source=tmp_path, target="/work", writable=True)
    inside = tools.sandbox("build").with_mounts([mount]).with_env({}, cwd="/work")
    for name, text in LINKED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    gcc = ["gcc", "-O0", "-ffreestanding", "-fno-pic", "-fno-asynchronous-unwind-tables", "-c"]
    inside.run([*gcc, "main.c", "-o", "main.o"])
    inside.run([*gcc, "lib/twice.c", "-o", "lib/twice.o"])
    inside.run(["ar", "rc", "lib/lib.a", "lib/twice.o"])
    inside.run(["ld", "-Map=prog.map", "-o", "prog", "main.o", "lib/lib.a"])
    found = linkmap.objects((tmp_path / "prog").read_bytes(), (tmp_path / "prog.map").read_text().splitlines(True))
    assert set(found) == {linkmap.ALIGNMENT, "main.o", "lib/twice.o"}
    assert 5000 < found["main.o"][0] < 5400 and found["main.o"][1] < 300
    assert 4000 < found["lib/twice.o"][0] < 4100
    rows = inside.run(["readelf", "-SW", "prog"]).decode().splitlines()
    loaded = [row for row in rows if re.search(r" (PROGBITS|NOTE) .* [WX]*A", row)]
    assert sum(size for size, _ in found.values()) == sum(int(row[6:].split()[4], 16) for row in loaded)


@pytest.fixture
def kernel_file(tmp_path: Path) -> Path:
    """A kernel in a result of its package: 2 sectors of setup, 64 bytes of decompressor, 1000 packed bytes."""
    data = bytearray(1024 + 64 + 1000)
    data[0x1F1], data[0x202:0x206] = 1, b"HdrS"
    struct.pack_into("<II", data, 0x248, 40, 1000)
    path = tmp_path / "result/boot/bzImage"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    sizes = {linkmap.ALIGNMENT: [3000, 0], "mm/slub.o": [2000, 100], "net/core/dev.o": [4000, 300]}
    place = tmp_path / "result" / kernel.OBJECTS
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(sizes))
    return path


def test_kernels(kernel_file: Path) -> None:
    _, unpacked, found = measure({}, [kernel_file], no_packer)
    assert unpacked.name == KERNEL and names(unpacked) == {"net": 4000, linkmap.ALIGNMENT: 3000, "mm": 2000}
    assert names(found) == {"compressed kernel": 1000, "setup": 1024, "decompressor and padding": 64}
    packed = next(part for part in found.parts if part.parts)
    assert names(packed) == {"net": 750, "mm": 250} and all(part.about for part in packed.parts)
    image = kernel_file.with_name("Image")
    image.write_bytes(bytes(56) + b"ARM\x64" + bytes(10_000))
    assert names(measure({}, [image], no_packer)[2]) == {
        "net": 4000, linkmap.ALIGNMENT: 3000, "mm": 2000, "padding between sections": 1060,
    }  # fmt: skip
    (kernel_file.parent.parent / kernel.OBJECTS).write_text("{")
    with pytest.raises(KilnError, match=r"kernel-sizes.json: cannot read it: .*\n  doit verify"):
        measure({}, [kernel_file], no_packer)


def trees(before: list[Part], after: list[Part]) -> list[str]:
    both = zip(before, after, strict=True)
    return list(render([compare(*pair) for pair in both], compared=before is not after))


def test_the_tables(tmp_path: Path) -> None:
    nodes = [file_node("bin/sh", b"x" * 9000, package="busybox"), file_node("etc/x", b"x" * 1000, package="init")]
    (tmp_path / "rootfs.cpio").write_bytes(b"x" * 5000)
    old = measure({node.path: node for node in nodes}, [tmp_path / "rootfs.cpio"], no_packer)
    assert trees(old, old) == [
        "root file system    10.0 kB",
        "  busybox            9.0 kB   90.0 %",
        "  init               1.0 kB   10.0 %",
        "files                  10.0 kB",
        "  /bin/sh (busybox)     9.0 kB   90.0 %",
        "  /etc/x (init)         1.0 kB   10.0 %",
        "rootfs.cpio     5.0 kB",
    ]
    nodes[1] = file_node("etc/y", b"x" * 3000, package="init")
    new = measure({node.path: node for node in nodes}, [tmp_path / "rootfs.cpio"], no_packer)
    assert trees(old, new) == [
        "root file system  +2.0 kB (10.0 kB -> 12.0 kB)",
        "  init            +2.0 kB (1.0 kB -> 3.0 kB)",
        "files            +2.0 kB (10.0 kB -> 12.0 kB)",
        "  /etc/y (init)  new, +3.0 kB",
        "  /etc/x (init)  gone, -1.0 kB",
    ]


def test_names_cannot_command_the_terminal() -> None:
    part = Part.of(ROOT, 4, [Part.of("a", 4, [Part(name="/\x1b[2J", size=4)], rest="")], rest="")
    assert trees(parts := [part], parts)[-1] == r"  /\x1b[2J (a)        4 B  100.0 %"


def page_data(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, object] = json.loads(found[1])
    return data


def test_hostile_names_stay_names_in_the_page() -> None:
    part = Part.of(ROOT, 4, [Part.of(EVIL, 4, [Part(name="/x", size=4)], rest="")], rest="")
    text = treemap.page(EVIL, [compare(part, part)], before=EVIL)
    assert text.count("</script") == 2 and "<img" not in text
    data = page_data(text)
    assert data["title"] == data["before"] == EVIL
    assert data["trees"] == [[ROOT, 4, 4, 0, [[EVIL, 4, 4, 0, [["/x", 4, 4, 0, []]]]]]]
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:|url\(|@import""", text)


def dump(page: Path, place: str, tmp_path: Path) -> str:
    """What a browser makes of the page."""
    chromium = shutil.which("chromium")
    assert chromium
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path}/profile",
        "--window-size=1280,800", "--dump-dom", f"{page.as_uri()}{place}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_draws_the_page(tmp_path: Path) -> None:
    parts = [Part(name=f"/{index}", size=1000 * index) for index in range(1, 30)]
    old = Part.of(ROOT, 2_000_000, [Part.of(EVIL, 435_000, parts, rest="")], rest="<b>rest</b>")
    new = Part.of(ROOT, 1_435_000, [Part.of(EVIL, 435_000, parts, rest="")], rest="<b>rest</b>")
    page = tmp_path / "size.html"
    page.write_text(treemap.page("test", [compare(old, new)], before="old"))
    whole = dump(page, "", tmp_path)
    body = whole[: whole.index('<script type="application/json"')]
    assert "<b>" not in body and "<img" not in body and "&lt;b&gt;rest&lt;/b&gt;" in body
    assert re.search("shrunk \N{MINUS SIGN}565.0&nbsp;kB", body)
    cells = re.findall(r"<(?:a|div)[^>]*left: ([\d.]+)px; top: ([\d.]+)px; width: ([\d.]+)px; height: ([\d.]+)px", body)
    areas = sorted(float(width) * float(height) for _, _, width, height in cells)
    assert len(cells) == 31
    assert areas[-1] / areas[-2] == pytest.approx(1_565_000 / 435_000, rel=0.01)
    inner = dump(page, "#0.0", tmp_path)
    assert inner.count('scope="row"') == 29 and 'aria-current="page"' in inner


@pytest.mark.sandbox
def test_every_way_to_ask(
    real_project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = '@package.install\ndef install(step, board):\n    step.write("boot/bzImage", "kernel")\n'
    real_project.recipe("linux", phases=kernel)
    program = '@package.install\ndef install(step, board):\n    step.write("bin/tool", "x" * 5000)\n'
    real_project.recipe("tool", phases=program)
    real_project.board(packages=["tool"], more='loader = "none"\n[budget]\ntool = "1K"\n')
    image(real_project.root / "before", [file_node("bin/tool", b"x" * 3000, package="tool")], bzImage=b"x", old=b"y")
    built = real_project.doit("size")
    assert re.search(r"\n  /bin/tool \(tool\) +5.0 kB +98.9 %\n", built.stdout)
    assert {"bzImage", "rootfs.cpio.zst", "rootfs.ext4"} < set(built.stdout.split())
    assert built.stdout.endswith("as a page: output/test/size.html\n")
    assert '"rootfs.cpio.zst"' in (real_project.root / "output/test/size.html").read_text()
    monkeypatch.chdir(real_project.root)
    graph = real_project.graph()
    doit_size(graph, "before/manifest.json", html="page.html")
    out = capsys.readouterr().out
    assert "\n  tool            +2.0 kB (3.0 kB -> 5.0 kB)\n" in out and "bzImage" not in out
    doit_size(graph, "before", html="page.html")
    out = capsys.readouterr().out
    assert re.search(r"bzImage +\+5 B \(1 B -> 6 B\)\n", out) and re.search(r"old +gone, -1 B\n", out)
    with pytest.raises(KilnError, match="name one other image\n  doit size"):
        doit_size(graph, "before", "before", html=None)
    with pytest.raises(KilnError, match=r"no/page\.html: cannot write it: No such file"):
        doit_size(graph, html="no/page.html")
    assert "tool takes 5.0 kB (5000 B), 4.0 kB more than 1.0 kB (1024 B)" in real_project.doit("image").stdout


@pytest.mark.boot
def test_every_byte_of_the_real_image(tmp_path: Path) -> None:
    graph = Graph.load(Settings.read(ROOT_FOLDER), "qemu-x86_64")
    command = [sys.executable, "-m", "doit", "image"]
    subprocess.run(command, cwd=ROOT_FOLDER, check=True, capture_output=True)
    doit_size(graph, html=str(tmp_path / "size.html"))
    trees = page_data((tmp_path / "size.html").read_text())["trees"]
    assert isinstance(trees, list)
    found = {tree[0]: tree for tree in trees}
    files = {name: path.stat().st_size for name, path in graph.image.files().items() if name != "manifest.json"}
    assert {name: found[name][1] for name in files} == files
    for tree in trees:
        _check(tree)
    for name in (ROOT, "rootfs.cpio.zst", "rootfs.ext4", "rootfs.tar.zst"):
        assert {"busybox", "init"} < {part[0] for part in found[name][4]}
    ((boot, rest),) = [(part[4], part[1]) for part in found["disk.img"][4] if "/bzImage" in [row[0] for row in part[4]]]
    assert {row[0]: row[1] for row in boot}["/bzImage"] == files["bzImage"] < rest
    drivers = next(part for part in found[KERNEL][4] if part[0] == "drivers")
    assert {"virtio", "tty"} < {part[0] for part in drivers[4]}


def _check(tree: list[Any]) -> None:
    _, size, _, _, parts = tree
    assert not parts or size == sum(part[1] for part in parts)
    for part in parts:
        _check(part)
