"""BusyBox's own test suite, run by the BusyBox of the image inside the machine that we ship it for."""

import io
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from kiln.graph import Graph
from kiln.kernel import kernel_image
from kiln.settings import Settings
from kiln.vm.qemu import Boot, command, find_program, own_program

ROOT = Path(__file__).parent.parent
BOARD = "qemu-x86_64"
EXPECTED = Path(__file__).parent / "fixtures/busybox-testsuite.toml"

# An emulated processor needs a minute for these checksums of megabytes: KILN_SLOW=1 runs them.
SLOW = ["md5sum.tests", *(f"sha{bits}sum.tests" for bits in (1, 256, 3, 512))]

# The suite wants to write into its folder, and a shell in $SHELL.
SCRIPT = (
    "mkdir /tmp/suite; cd /tmp/suite; tar -xf /dev/vda; ln -s /bin/busybox .; cd testsuite; export SHELL=/bin/sh",
    "./runtest </dev/null 2>&1; echo suite-$((40 + 2))",
    "poweroff",
)

pytestmark = pytest.mark.boot


@pytest.fixture(scope="module")
def graph() -> Graph:
    graph = Graph.load(Settings.read(ROOT), BOARD)
    names = ["image", "busybox:fetch", *([] if own_program(graph.board.arch.name) else [f"tools:{graph.vm}"])]
    run = subprocess.run([sys.executable, "-m", "doit", *names], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stdout.decode()
    return Graph.load(Settings.read(ROOT), BOARD)


def suite(graph: Graph, path: Path) -> None:
    """Write the suite and the configuration of our BusyBox, laid out as in its build folder, as a tar archive."""
    source = graph.source("busybox", graph.version("busybox")).built().root
    with tarfile.open(path, "w") as archive:
        archive.add(graph.stages("busybox")["configure"].built().root / "config", ".config")
        left_out = [] if os.environ.get("KILN_SLOW") else SLOW
        archive.add(
            source / "testsuite",
            "testsuite",
            filter=lambda entry: None if os.path.basename(entry.name) in left_out else entry,
        )
        # Two loops over a million numbers, which an emulated processor needs ten minutes for; the last one counts.
        numbers = (source / "testsuite/bc.tests").read_text()
        start, end = numbers.index('testing "bc parsing of numbers"'), numbers.index("for f in bc*.bc")
        data = (numbers[:start] + numbers[end:]).encode()
        entry = tarfile.TarInfo("testsuite/bc.tests")
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))


def run_inside(graph: Graph, drive: Path, log: Path) -> str:
    """Boot the initramfs as shipped, and let its shell run the suite; what it printed goes to ``log`` too."""
    kernel = kernel_image(graph.result("linux").built())
    boot = Boot(
        kernel=kernel, initrd=graph.image.files()["rootfs.cpio.zst"], drives=(drive,), cmdline=graph.board.cmdline
    )
    tree = graph.tools[graph.vm].entry()
    program = find_program(graph.board.arch.name, tree.root if tree else None)
    machine = replace(graph.board.machine, memory=512)
    argv = command(machine, boot, program=program, kvm=False, interactive=False)
    with log.open("w") as out:
        child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", codec_errors="replace", timeout=900, logfile=out)
        try:
            for line in SCRIPT:
                child.expect(":[^ ]*# ")
                child.sendline(line)
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)
    return log.read_text()


def test_its_suite_passes_but_for_what_is_known(graph: Graph, tmp_path: Path) -> None:
    suite(graph, tmp_path / "suite.tar")
    said = run_inside(graph, tmp_path / "suite.tar", tmp_path / "log")
    assert "suite-42" in said
    rows = re.findall(r"^(PASS|FAIL|SKIPPED|UNTESTED): (.*?)\r*$", said, re.MULTILINE)
    print(dict(Counter(word for word, _ in rows)), tmp_path / "log")
    passed, failed = ({name for word, name in rows if word == wanted} for wanted in ("PASS", "FAIL"))
    expected = tomllib.loads(EXPECTED.read_text())
    assert failed - expected.keys() == set(), "these are new"
    assert expected.keys() - failed == set(), f"these pass now, or are gone: take them out of {EXPECTED.name}"
    assert len(passed) > 900
