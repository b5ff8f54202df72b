"""The compressors of an initramfs, each booted for real."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.graph import Graph
from kiln.image import cpio
from kiln.image.media import COMPRESSORS
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm import compressors
from kiln.vm.qemu import Boot, find_qemu
from kiln.vm.setup import Setup

ROOT = Path(__file__).parent.parent
BOARD = "qemu-x86_64"


@pytest.mark.boot
def test_each_is_packed_and_booted_unless_the_kernel_lacks_it(tmp_path: Path) -> None:
    graph = Graph.load(Settings.read(ROOT), BOARD)
    words = [sys.executable, "-m", "doit", "rootfs", "linux", f"tools:{graph.vm}", f"BOARD={BOARD}"]
    env = dict(os.environ) | {"PYTHONPATH": os.fspath(ROOT)}
    subprocess.run(words, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    plain = tmp_path / "rootfs.cpio"
    cpio.write(graph.rootfs.settled(), plain)
    setup = Setup.of(graph)
    setup = replace(setup, kconfig=dict(setup.kconfig) | {"CONFIG_RD_LZ4": "n"})
    qemu, kvm = find_qemu(graph)
    steps: list[str] = []
    trials = compressors.measure(
        plain,
        Boot(kernel=kernel_image(graph.kernel.built()), cmdline=graph.board.cmdline),
        machine=graph.board.machine,
        program=qemu,
        kvm=kvm,
        setup=setup,
        sandbox=graph.tools.sandbox("image"),
        runs=1,
        step=steps.append,
    )
    found = {trial.name: trial for trial in trials}
    assert steps == ["none 1/1", "gzip 1/1", "zstd 1/1", "xz 1/1"]
    assert found["none"].size == plain.stat().st_size
    assert found["none"].size > found["gzip"].size > found["zstd"].size > found["xz"].size
    for name in ("none", "gzip", "zstd", "xz"):
        (unpacking,), (ready,) = found[name].unpacking, found[name].ready
        assert 0 < unpacking < ready
    lines = list(compressors.render(trials))
    assert [line.split()[0] for line in lines[1:]] == list(COMPRESSORS)
    assert "CONFIG_RD_LZ4 is not set" in lines[3]
    assert re.search(r"^xz +[\d.]+ MB +[\d.]+ s +[\d.]+ ±0\.00 s +[\d.]+ ±0\.00 s$", lines[-1])
