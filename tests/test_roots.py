"""Roots that must be put together first, or lie on another machine: each is made, booted, and checked from inside."""

import re

import pytest

from kiln.graph import Graph
from kiln.settings import Settings
from kiln.vm.roots import ROOTS
from tests.test_boot import ROOT, doit

BOARD = "qemu-x86_64-dracut"
# What the check finds at / where that is no ext4.
OTHERS = dict.fromkeys(("overlay", "nbd", "iso", "iso-disk"), "overlay") | dict.fromkeys(("nfs", "nfsroot"), "nfs4?")
FOUND = ("label", "uuid", "uki", "iso", "iso-disk")

pytestmark = pytest.mark.boot


def test_the_board_has_every_kind() -> None:
    assert ROOTS.keys() | set(FOUND) <= set(Graph.load(Settings.read(ROOT), BOARD).roads)


@pytest.mark.parametrize("road", [*FOUND, *ROOTS])
def test_it_leads_to_the_real_root(road: str) -> None:
    said = doit(f"test:{road}", f"BOARD={BOARD}")
    assert f"{BOARD} by {road}: all was well" in said
    log = (ROOT / f"output/{BOARD}/boot/{road}.log").read_text()
    assert re.search(rf"info root={OTHERS.get(road, 'ext4')}$", log, re.MULTILINE)
