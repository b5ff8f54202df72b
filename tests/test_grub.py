import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import grub
from kiln.image.disk import ALIGNMENT, SECTOR
from kiln.image.manifest import Manifest
from kiln.sandbox import Sandbox

UUID = "440aa176-97fa-475a-8209-d96eff4a0c90"


def core(sandbox: Sandbox, folder: Path, uuid: str = UUID) -> tuple[bytes, bytes]:
    folder.mkdir()
    return grub.core(sandbox, uuid=uuid, scratch=folder)


@pytest.mark.sandbox
def test_the_core_is_found_after_the_first_sector_and_fits_there(image_sandbox: Sandbox, tmp_path: Path) -> None:
    boot, image = core(image_sandbox, tmp_path / "core")
    assert len(boot) == 440 and b"GRUB" in boot
    assert len(image) < (ALIGNMENT - 1) * SECTOR
    # boot.img's own word for where the core starts, and the core's for where its rest is.
    assert int.from_bytes(boot[0x5C:0x64], "little") == 1
    start, sectors = int.from_bytes(image[500:508], "little"), int.from_bytes(image[508:510], "little")
    assert (start, sectors) == (2, -(-len(image) // SECTOR) - 1)


@pytest.mark.sandbox
def test_it_looks_for_its_menu_on_the_root(image_sandbox: Sandbox, tmp_path: Path) -> None:
    images = [core(image_sandbox, tmp_path / name, uuid)[1] for name, uuid in (("a", UUID), ("b", UUID[::-1]))]
    assert images[0] != images[1]
    early = (tmp_path / "a/early.cfg").read_text()
    assert re.search(rf"search .*--fs-uuid --set=root {UUID}\n", early)
    image_sandbox.run(["grub-script-check"], input=early.encode())


@pytest.mark.sandbox
def test_it_is_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    images = []
    for name, mask in (("one", 0o022), ("two", 0o077)):
        umask = os.umask(mask)
        try:
            images.append(core(image_sandbox, tmp_path / name))
        finally:
            os.umask(umask)
    assert images[0] == images[1]


def test_the_root_has_the_kernel_and_the_menu(tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(b"kernel")
    found = {
        node.path: node for node in Manifest.merge([("grub", grub.nodes({"bzImage": kernel}, "set timeout=1\n"))]).nodes
    }
    assert list(found) == ["boot", "boot/bzImage", "boot/grub", "boot/grub/grub.cfg"]
    assert found["boot/bzImage"].read() == b"kernel" and found["boot/bzImage"].size == 6
    assert found["boot/grub/grub.cfg"].read() == b"set timeout=1\n"
    assert all(found[name].mode == 0o644 for name in ("boot/bzImage", "boot/grub/grub.cfg"))


@pytest.mark.sandbox
def test_a_tree_without_grub_is_told(image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"has no usr/lib/grub/i386-pc/boot\.img") as error:
        core(replace(image_sandbox, root=tmp_path), tmp_path / "core")
    assert error.value.hint and "grub-pc-bin" in error.value.hint
