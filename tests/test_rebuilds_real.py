"""Exact rebuilds of the real board, in copies of the project that have all that it is made from."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.graph import Graph
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.target import closure
from tests.test_boot import BOARD, copy_to, doit
from tests.test_rebuilds import AND_IMAGES, IMAGES, NOTHING, ROOT, Checkout, Edits, recipe, switch_there_and_back

TOML = f"configs/{BOARD}.toml"
NODE = "configs/common/node.toml"
OVERLAY = f"board/{BOARD}/overlay/etc/motd"
SYMBOL = {f"board/{BOARD}/linux/rebuilt.config": ("", 'CONFIG_LOCALVERSION="-rebuilt"\n')}

pytestmark = pytest.mark.boot
slow = pytest.mark.skipif(not os.environ.get("KILN_SLOW"), reason="takes minutes: KILN_SLOW=1 runs it")


@pytest.fixture(scope="module")
def reached() -> set[str]:
    """The folders of all results that the board's image is made from, sources as well."""
    doit("image")
    targets = closure(Graph.load(Settings.read(ROOT), BOARD).image)
    for target in targets:
        if target.id in ("linux:fetch", "busybox:fetch"):  # which an image needs no more once it is built
            target.build()
    return {entry.path.name for target in targets if (entry := target.entry())}


@pytest.fixture
def checkout(tmp_path: Path, reached: set[str]) -> Checkout:
    """A copy of the project, kiln itself included, whose store has just what the board needs."""
    root = copy_to(tmp_path / "project", reached.__contains__)
    env = {"PYTHONPATH": os.fspath(root), "PYTHONDONTWRITEBYTECODE": "1"}
    checkout = Checkout(root=root, board=BOARD, env=env)
    assert checkout.made() == set()
    return checkout


RULES: dict[str, tuple[Edits, set[str], set[str]]] = {
    "a comment in every recipe: nothing": (
        {f"packages/{path.parent.name}/recipe.py": ("\n", "\n\n# A comment.\n")
         for path in ROOT.glob("packages/*/recipe.py")}, NOTHING, NOTHING),
    "a comment in the board: nothing": ({TOML: ("\n", "\n# A comment.\n\n")}, NOTHING, NOTHING),
    "a comment in fragments of kernel and busybox: their configurations": (
        {"board/common/linux/base.config": ("\n", "\n# A comment.\n"),
         "packages/busybox/files/busybox.config": ("\n", "\n# A comment.\n")},
        {"linux:configure", "busybox:configure"}, NOTHING),
    "a command that leaves the headers as they were: nothing above": (
        recipe("linux-headers", '"test", "-f"', '"test", "-r"'), {"linux-headers:build"}, NOTHING),
    "the first program: it and images": (
        {"packages/init/files/init": ("\n", "\n# A comment.\n")}, {"init:build"}, IMAGES),
    "a text in a recipe: it and images": (recipe("init", r"\\w\\$ ", r"\\w> "), {"init:build"}, IMAGES),
    "an option: its package and images": ({NODE: ("autologin = true", "autologin = false")}, {"init:build"}, IMAGES),
    "the kernel's command line: the disk": ({TOML: ("panic=-1", "panic=-1 quiet")}, {"disk"}, {"image"}),
    "an overlay: images": ({OVERLAY: ("", "welcome\n")}, {"rootfs"}, AND_IMAGES),
    "a user: images": ({TOML: ("[qemu]", "[users.kim]\nuid = 1000\ngid = 1000\n\n[qemu]")}, {"rootfs"}, AND_IMAGES),
}  # fmt: skip


@pytest.mark.parametrize(("edits", "announced", "more"), RULES.values(), ids=RULES)
def test_an_edit_rebuilds_just_what_it_changes(
    checkout: Checkout, edits: Edits, announced: set[str], more: set[str]
) -> None:
    checkout.edit(edits)
    checkout.check(announced, more)


@slow
def test_a_c_library_built_to_the_same_bytes_rebuilds_nothing_above(checkout: Checkout) -> None:
    checkout.edit(recipe("musl", '"--disable-wrapper"', '"--disable-wrapper", "--disable-wrapper"'))
    checkout.check({"musl:build"}, set())


def test_a_symbol_of_the_kernel_rebuilds_kernel_and_disk(checkout: Checkout) -> None:
    checkout.edit(SYMBOL)
    assert checkout.announced() == ({"linux:configure"}, {"linux:build", "disk", "licenses", "image"})
    assert checkout.made("linux:configure") == {"linux:configure"}
    assert checkout.announced() == ({"linux:build"}, {"disk", "licenses", "image"})
    if os.environ.get("KILN_SLOW"):
        assert checkout.made() == {"linux:build", "disk", "image"}
        assert checkout.made() == set()


def test_an_overlay_edited_within_its_time_and_size_is_noticed(checkout: Checkout) -> None:
    checkout.edit({OVERLAY: ("", "welcome\n")})
    assert checkout.made() == IMAGES
    before = (checkout.root / OVERLAY).stat()
    checkout.edit({OVERLAY: ("welcome", "go away")})
    after = (checkout.root / OVERLAY).stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    checkout.check({"rootfs"}, AND_IMAGES)


def holders(output: Path, path: str, sandbox: Sandbox) -> list[str]:
    """The images that hold a path, as other programs than those that wrote them see it."""
    sandbox = sandbox.with_mounts([Mount(source=(output / "rootfs.ext4").resolve().parent, target="/work")])
    held = {"rootfs.ext4": "Inode:" in sandbox.run(["debugfs", "-R", f"stat /{path}", "/work/rootfs.ext4"]).decode()}
    for name, words in (("cpio", "cpio -t --quiet"), ("tar", "tar -t")):
        data = (output / f"rootfs.{name}.zst").read_bytes()
        names = sandbox.run(["sh", "-euc", f"zstd -dc | {words}"], input=data).decode().splitlines()
        held[f"rootfs.{name}.zst"] = path in {name.removeprefix("./") for name in names}
    return sorted(name for name, found in held.items() if found)


def test_a_package_less_takes_its_files_from_every_image(checkout: Checkout, image_sandbox: Sandbox) -> None:
    output = checkout.root / "output" / BOARD
    before = json.loads((output / "manifest.json").read_text())
    gone = [row["path"] for row in before if row["package"] == "check" and row["type"] == "file"]
    assert gone
    for path in gone:
        assert holders(output, path, image_sandbox) == ["rootfs.cpio.zst", "rootfs.ext4", "rootfs.tar.zst"]
    checkout.edit({NODE: ('"check", ', "")})
    checkout.check({"rootfs", "licenses"}, AND_IMAGES)
    for path in gone:
        assert holders(output, path, image_sandbox) == []
    after = json.loads((output / "manifest.json").read_text())
    assert [row for row in before if row not in after and row["path"] not in gone and row["type"] != "dir"] == []
    assert [row for row in after if row not in before and row["type"] != "dir"] == []
    assert (output / "rootfs.ext4").read_bytes() in (output / "disk.img").read_bytes()


def test_another_board_of_the_architecture_makes_only_what_differs(checkout: Checkout) -> None:
    text = (checkout.root / TOML).read_text()
    checkout.edit({"configs/other.toml": ("", text), "configs/plain.toml": ("", text.replace('"ttyS0"', '"ttyS1"'))})
    assert replace(checkout, board="other").made() == {"licenses"} | IMAGES
    assert replace(checkout, board="plain").made() == {"init:build", "licenses"} | IMAGES
    assert checkout.made() == set()


def test_a_branch_switched_there_and_back_rebuilds_nothing(checkout: Checkout) -> None:
    edits = RULES["an option: its package and images"][0] | RULES["an overlay: images"][0]
    switch_there_and_back(checkout, edits, {"init:build"} | IMAGES)


def test_a_tools_lock_of_the_same_pins_rebuilds_nothing(checkout: Checkout) -> None:
    lock = checkout.root / "kiln/tools.lock"
    pins = json.loads(lock.read_text())
    lock.write_text(json.dumps(pins[::-1], indent=4))
    assert checkout.made() == set()
    # And it is this lock that counts.
    pin = next(pin for pin in pins if pin["name"] == "make")
    pin["sha256"] = "0" * 64
    lock.write_text(json.dumps(pins))
    will, _ = checkout.announced()
    assert {"tools:build", "busybox:configure", "musl:build", "linux:configure"} <= will
