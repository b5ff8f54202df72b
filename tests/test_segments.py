import gzip
import lzma
import os
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.initramfs import compression, segments
from kiln.initramfs.newc import TRAILER
from kiln.initramfs.stream import Stream
from kiln.sandbox import Mount, Sandbox
from tests.initramfs import PACKERS, archive, file, folder, joined

MICROCODE = archive(folder("kernel"), file("kernel/microcode", os.urandom(5000)))
ROOT = archive(folder("."), file("init", b"#!/bin/sh\n" * 3000), file("etc/fstab", b"x"))


def names(path: Path) -> list[list[str]]:
    return [[entry.name for entry in segment if not entry.is_trailer] for segment in segments.read(path)]


def written(path: Path, *parts: bytes, gap: int = 0) -> Path:
    path.write_bytes(joined(parts, gap=gap))
    return path


@pytest.mark.parametrize("name", PACKERS)
def test_each_compressor_is_told_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a", PACKERS[name](ROOT))
    (segment,) = ((item.compressor, [entry.name for entry in item], item) for item in segments.read(path))
    assert segment[:2] == (name, [".", "init", "etc/fstab", TRAILER])
    found = segment[2]
    assert (found.offset, found.unpacked) == (0, len(ROOT))
    assert found.packed == path.stat().st_size - (-len(PACKERS[name](ROOT)) % 4 if name != "none" else 0)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("gap", [4, 512])
def test_segments_of_all_kinds_may_follow_each_other(tmp_path: Path, name: str, gap: int) -> None:
    packed = PACKERS[name](ROOT)
    path = written(tmp_path / "a", MICROCODE, packed, gzip.compress(MICROCODE), packed, MICROCODE, gap=gap)
    early, main = ["kernel", "kernel/microcode"], [".", "init", "etc/fstab"]
    assert names(path) == [early, main, early, main, early]


@pytest.mark.parametrize("name", list(compression.NAMES))
def test_what_we_pack_is_unpacked_again_and_comes_out_the_same(name: str) -> None:
    compressor = compression.named(name)
    data = os.urandom(100_000) + bytes(20_000_000) + MICROCODE

    def packed(size: int) -> bytes:
        packer = compressor.packer()
        return b"".join(packer.compress(data[at : at + size]) for at in range(0, len(data), size)) + packer.flush()

    found = packed(1 << 20)
    assert found == packed(1 << 20) == packed(70_001)
    if name != "none":
        end = b"0707"
        stream = Stream(iter([found, *([bytes(4)] if name == "lz4" else []), end]), "test")
        assert compression.find(stream) is compressor
        assert b"".join(compressor.unpack(stream)) == data
        stream.zeros()
        assert stream.peek(9) == end


@pytest.mark.sandbox
@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "xz --format=lzma", "lz4", "zstd"])
def test_the_programs_of_others_unpack_it(checkers: Sandbox, name: str) -> None:
    packer = compression.named(name.rpartition("=")[2]).packer()
    packed = packer.compress(ROOT) + packer.flush()
    assert checkers.run([*name.split(), "-dc"], input=packed) == ROOT


@pytest.mark.sandbox
def test_the_programs_of_others_pack_it(checkers: Sandbox, tmp_path: Path) -> None:
    commands = (
        ["gzip", "-9"], ["bzip2"], ["xz", "--check=crc32"], ["xz", "--format=lzma"], ["lz4", "-l", "-9"], ["lz4"],
        ["zstd", "-19", "--long=27", "-T0"], ["zstd", "--rsyncable"],
    )  # fmt: skip
    for words in commands:
        packed = checkers.run(words, input=ROOT)
        assert names(written(tmp_path / "a", MICROCODE, packed)) == [
            ["kernel", "kernel/microcode"],
            [".", "init", "etc/fstab"],
        ]


@pytest.mark.sandbox
def test_archives_of_gnu_cpio_are_read(checkers: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "init").write_text("#!/bin/sh\n")
    (tree / "etc/long").write_bytes(os.urandom(70_000))
    (tree / "etc/sh").symlink_to("../init")
    inside = checkers.with_mounts([Mount(source=tree, target="/src")])
    for kind in ("newc", "crc"):
        data = inside.run(["bash", "-c", f"cd /src && find . | sort | cpio -o -H {kind} --quiet"])
        listed = inside.run(["cpio", "-t", "--quiet"], input=data).decode().split("\n")[:-1]
        assert names(written(tmp_path / "a", data)) == [listed]
        assert listed == [".", "./etc", "./etc/long", "./etc/sh", "./init"] or set(listed) == {
            ".", "etc", "etc/long", "etc/sh", "init",
        }  # fmt: skip


def test_lz4_must_be_ended_by_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(PACKERS["lz4"](ROOT) + MICROCODE)
    with pytest.raises(KilnError, match=r"behind lz4 data there is something else\n  kernels want four zero bytes"):
        names(path)


def test_an_archive_may_go_on_after_its_trailer_within_a_compressor(tmp_path: Path) -> None:
    assert names(written(tmp_path / "a", gzip.compress(ROOT + MICROCODE))) == [
        [".", "init", "etc/fstab", "kernel", "kernel/microcode"]
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (bytes(100), "holds nothing but zeros"),
        (b"\1" + bytes(1079) + b"\x53\xef" + bytes(99), r"a.img: is no initramfs, but an ext2, ext3 or ext4 image"),
        (bytes(1080) + b"\x53\xef" + bytes(99), r"a.img: is no initramfs, but an ext2, ext3 or ext4 image"),
        (gzip.compress(b"\1" + bytes(1079) + b"\x53\xef" + bytes(99), mtime=0), r"this is no initramfs, but an ext2"),
        (b"hsqs" + bytes(99), r"but a squashfs image"),
        (b"MZ" + bytes(0x200) + b"HdrS" + bytes(99), r"but a kernel \(bzImage\)"),
        (b"hello, world", r"byte 0: 68 65 6c 6c 6f 2c 20 77 is .*\n.*gzip, bzip2, lzma, xz, lzo, lz4, zstd"),
        (gzip.compress(b"hello", mtime=0), r"segment 1, unpacked by gzip: byte 0: b'hello' is no header"),
        (gzip.compress(b"", mtime=0), r"there is nothing in it"),
        (gzip.compress(ROOT, mtime=0)[:-20], r"the compressed data ends too early"),
        (lzma.compress(ROOT)[:-60], r"the compressed data ends too early"),
        (ROOT + b"junk", r"byte \d+: 6a 75 6e 6b is the start of no archive"),
        (ROOT + b"\0" + ROOT, r"segment 2: byte \d+: an entry does not start at a multiple of 4"),
        (gzip.compress(ROOT + b"junk", mtime=0), r"unpacked by gzip: byte \d+: b'junk' is no header"),
        (b"\xc7q" + bytes(99), r"cpio archive in the old binary format"),
        (b"070707" + bytes(99), r"cpio's old portable format"),
    ],
)
def test_what_is_no_initramfs_is_told_apart(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(data)
    with pytest.raises(KilnError, match=r"a\.img") as found:
        names(path)
    found.match(message)


def test_what_needs_more_memory_than_kernels_have_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
    name = tmp_path / "a"
    name.write_bytes(lzma.compress(ROOT, format=lzma.FORMAT_XZ, filters=filters))
    with pytest.raises(KilnError, match="packed for more memory"):
        names(name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"nothing: cannot read it: No such file"):
        names(tmp_path / "nothing")
    with pytest.raises(KilnError, match=r"cannot read it: Is a directory"):
        names(tmp_path)


def test_a_name_of_no_compressor() -> None:
    with pytest.raises(KilnError, match=r"no compressor 'zst'\n  did you mean zstd"):
        compression.named("zst")
