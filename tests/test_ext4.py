import os
import re
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import ext4
from kiln.image.manifest import CAPABILITIES, Manifest, Node, file_node, tree_nodes
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH
from tests.rootfs import sample

pytestmark = pytest.mark.sandbox

UUID = "440aa176-97fa-475a-8209-d96eff4a0c90"
MIB = 1 << 20


def write(manifest: Manifest, path: Path, sandbox: Sandbox, scratch: Path, size: int | None = None) -> Path:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        ext4.write(manifest, path, sandbox=sandbox, scratch=Path(folder), size=size, uuid=UUID)
    return path


def inspect(path: Path, sandbox: Sandbox, *command: str) -> str:
    mount = Mount(source=path.parent, target="/work")
    return replace(sandbox, mounts=(mount,)).run([*command, f"/work/{path.name}"]).decode()


def debugfs(path: Path, sandbox: Sandbox, request: str) -> str:
    return inspect(path, sandbox, "debugfs", "-R", request)


CAPABLE = [
    replace(file_node("usr/bin/ping", os.urandom(5000), package="p"), capabilities=("cap_net_raw",)),
    replace(file_node('usr/bin/a "b\\', b"", package="p"), capabilities=("cap_setuid", "cap_bpf")),
    replace(file_node("usr/bin/all", b"", package="p"), capabilities=CAPABILITIES),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, image_sandbox: Sandbox) -> Path:
    folder = tmp_path_factory.mktemp("ext4")
    return write(sample(), folder / "a.ext4", image_sandbox, folder)


def quoted(path: str) -> str:
    return '"/' + path.replace('"', '""') + '"'


def test_the_checker_finds_it_clean(image: Path, image_sandbox: Sandbox) -> None:
    assert "Pass 5" in inspect(image, image_sandbox, "e2fsck", "-fn")
    summary = inspect(image, image_sandbox, "dumpe2fs", "-h")
    assert re.search(r"volume name: +rootfs\n", summary)
    assert re.search(rf"UUID: +{UUID}\n", summary)
    assert re.search(r"Last mount time: +n/a\n", summary)


@pytest.mark.parametrize("node", sample().nodes, ids=lambda node: node.path)
def test_each_node_has_its_type_mode_owner_times_and_content(node: Node, image: Path, image_sandbox: Sandbox) -> None:
    text = debugfs(image, image_sandbox, f"stat {quoted(node.path)}")
    kinds = {"file": "regular", "dir": "directory", "symlink": "symlink", "char": "character special"}
    kinds |= {"block": "block special", "fifo": "FIFO"}
    assert re.search(rf"Type: {kinds[node.kind]} +Mode: +0{node.mode:o} ", text)
    assert re.search(rf"User: +{node.uid} +Group: +{node.gid} ", text)
    times = re.findall(r"^ *(\w+): 0x([0-9a-f]+):([0-9a-f]+)", text, re.MULTILINE)
    assert times == [(name, f"{EPOCH:x}", "0" * 8) for name in ("ctime", "atime", "mtime", "crtime")]
    if node.kind == "file":
        assert debugfs(image, image_sandbox, f"cat {quoted(node.path)}").encode() == node.read()
    elif node.device:
        assert "Device major/minor number: {:02d}:{:02d} ".format(*node.device) in text
    elif node.target:
        assert node.target in (
            text if len(node.target) < 60 else debugfs(image, image_sandbox, f"cat {quoted(node.path)}")
        )


@pytest.mark.parametrize(("path", "mode"), [("/", "0755"), ("/lost+found", "0700")])
def test_the_folders_of_the_file_system_itself_are_roots(
    path: str, mode: str, image: Path, image_sandbox: Sandbox
) -> None:
    text = debugfs(image, image_sandbox, f"stat {path}")
    assert re.search(rf"Mode: +{mode} ", text)
    assert re.search(r"User: +0 +Group: +0 ", text)
    assert text.count(f"0x{EPOCH:x}:00000000") == 4


def test_the_image_is_the_same_every_time(image: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        # Another kind of file system, so that folders list their files in another order.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            again = write(sample(backwards=True), tmp_path / "b.ext4", image_sandbox, Path(memory))
    finally:
        os.umask(umask)
    assert again.read_bytes() == image.read_bytes()


def test_an_older_image_leaves_nothing(image: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "b.ext4").write_bytes(b"old" * 20 * MIB)
    assert write(sample(), tmp_path / "b.ext4", image_sandbox, tmp_path).read_bytes() == image.read_bytes()


def many(count: int, size: int) -> Manifest:
    nodes = [file_node(f"d{number % 7}/{number:0200}", os.urandom(size), package="p") for number in range(count)]
    return Manifest.merge([("p", nodes)])


@pytest.mark.parametrize(("count", "size"), [(1, 12 * MIB), (3000, 10), (400, 5000), (16, 8 * MIB)])
def test_the_size_that_an_error_tells_is_enough(count: int, size: int, image_sandbox: Sandbox, tmp_path: Path) -> None:
    manifest, path = many(count, size), tmp_path / "a.ext4"
    with pytest.raises(KilnError, match=r"a.ext4: 1048576 bytes are too few for its content") as caught:
        write(manifest, path, image_sandbox, tmp_path, MIB)
    told = re.search(r"(\d+) MiB are missing: set its size to (\d+) MiB", str(caught.value))
    assert told
    assert int(told[1]) == int(told[2]) - 1
    enough = int(told[2]) * MIB
    write(manifest, path, image_sandbox, tmp_path, enough)
    assert path.stat().st_size == enough
    assert "Pass 5" in inspect(path, image_sandbox, "e2fsck", "-fn")


@pytest.mark.parametrize("mib", [6, 8, 16, 50, 128])
def test_a_size_of_its_own_is_enough_whatever_the_journal_takes(
    mib: int, image_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The content makes the size the one asked for, which are those where mke2fs takes more for itself."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate((mib - 5) * MIB * 4 // 5 - 4096)
    path = write(Manifest.merge([("p", tree_nodes(tmp_path, "p"))]), tmp_path / "a.ext4", image_sandbox, tmp_path)
    assert path.stat().st_size == mib * MIB


def test_a_size_of_its_own_has_head_room(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(many(4, 8 * MIB), tmp_path / "a.ext4", image_sandbox, tmp_path)
    free = re.search(r"Free blocks: +(\d+)", inspect(path, image_sandbox, "dumpe2fs", "-h"))
    assert free and 8 * MIB <= int(free[1]) * 4096 < 16 * MIB


def test_devices_fit_into_full_folders(image_sandbox: Sandbox, tmp_path: Path) -> None:
    nodes = [Node(path=f"dev/{n:0200}", kind="char", mode=0o600, device=(4, n), package="p") for n in range(500)]
    path = write(Manifest.merge([("p", nodes)]), tmp_path / "a.ext4", image_sandbox, tmp_path)
    assert "Pass 5" in inspect(path, image_sandbox, "e2fsck", "-fn")
    assert stat.S_ISREG(path.stat().st_mode)
    assert debugfs(path, image_sandbox, "ls -p /dev").count("/020600/") == 500


def test_files_have_their_capabilities(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(Manifest.merge([("p", CAPABLE)]), tmp_path / "a.ext4", image_sandbox, tmp_path)
    assert "Pass 5" in inspect(path, image_sandbox, "e2fsck", "-fn")
    for node in CAPABLE:
        value = node.xattrs["security.capability"].hex(" ")
        listed = debugfs(path, image_sandbox, f"ea_list {quoted(node.path)}")
        assert listed.split("\n")[1].strip() == f"security.capability (20) = {value}"
        text = debugfs(path, image_sandbox, f"stat {quoted(node.path)}")
        assert "File ACL: 0\n" in text  # it is in the inode itself
        assert text.count(f"0x{EPOCH:x}:00000000") == 4


def test_capabilities_are_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    one, other = (
        write(Manifest.merge([("p", nodes)]), tmp_path / name, image_sandbox, tmp_path)
        for name, nodes in (("a.ext4", CAPABLE), ("b.ext4", CAPABLE[::-1]))
    )
    assert one.read_bytes() == other.read_bytes()


def test_a_label_is_what_it_is_found_by(image_sandbox: Sandbox, tmp_path: Path) -> None:
    def label(word: str) -> str:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            path, scratch = tmp_path / "a.ext4", Path(folder)
            ext4.write(Manifest(()), path, sandbox=image_sandbox, scratch=scratch, size=None, uuid=UUID, label=word)
        return inspect(path, image_sandbox, "dumpe2fs", "-h")

    assert re.search(r"volume name: +fifteen bytes +ü\n", label("fifteen bytes ü"))
    with pytest.raises(KilnError, match=r"a.ext4: the label 'seventeen bytes, ü' is too long\n.*16 bytes"):
        label("seventeen bytes, ü")


def test_an_empty_root_is_a_file_system_too(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(Manifest(()), tmp_path / "a.ext4", image_sandbox, tmp_path)
    assert "Pass 5" in inspect(path, image_sandbox, "e2fsck", "-fn")


def test_a_big_file_of_holes_comes_back(image_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/big").open("wb") as file:
        file.write(b"start")
        file.seek(64 * MIB)
        file.write(b"end")
    manifest = Manifest.merge([("p", tree_nodes(tmp_path / "tree", "p"))])
    path = write(manifest, tmp_path / "a.ext4", image_sandbox, tmp_path)
    assert "Pass 5" in inspect(path, image_sandbox, "e2fsck", "-fn")
    assert debugfs(path, image_sandbox, "cat /big").encode() == manifest.nodes[0].read()


def test_a_line_break_in_a_name_is_refused(image_sandbox: Sandbox, tmp_path: Path) -> None:
    manifest = Manifest.merge([("p", [file_node("line\nbreak", b"", package="p")])])
    with pytest.raises(KilnError, match="line break"):
        write(manifest, tmp_path / "a.ext4", image_sandbox, tmp_path)
