"""The recipes of this project: what each promises, and that it holds in what is built."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.graph import Graph
from kiln.recipe.load import load
from kiln.recipe.step import LICENSES
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.tools import Tools
from kiln.trees import merge

ROOT = Path(__file__).parent.parent
BOARD = "qemu-x86_64"
RECIPES = load(ROOT / "packages")
NODE = ("busybox", "dropbear", "iproute2", "iputils", "openssh")


@pytest.fixture(scope="module")
def built() -> Callable[[str], Path]:
    """The folder of what a package installs, which is built where it is not there yet."""
    words = [sys.executable, "-m", "doit", *NODE, f"BOARD={BOARD}"]
    run = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    graph = Graph.load(Settings.read(ROOT), BOARD)
    return lambda name: graph.result(name).built().root


def with_options(root: Path, more: str) -> Graph:
    """The recipes, for a board with these options."""
    for name in ("configs", "board"):
        (root / name).mkdir()
    (root / "packages").symlink_to(ROOT / "packages")
    (root / "configs/test.toml").write_text(f'summary = ""\narch = "x86_64"\npackages = []\n{textwrap.dedent(more)}')
    return Graph.load(Settings.read(root, {}), "test")


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.package.source])
def test_software_of_others_comes_with_its_license(name: str) -> None:
    assert RECIPES[name].package.license_files


@pytest.mark.parametrize("crypto", ["openssl", "internal"])
def test_ssh_is_compiled_against_openssl_where_the_board_wants_it(tmp_path: Path, crypto: str) -> None:
    stage = with_options(tmp_path, f'[options.openssh]\ncrypto = "{crypto}"').result("openssh")
    wanted = crypto == "openssl"
    assert {"zlib", "musl"} <= {lib.package for lib in stage.sysroot()}
    assert ("openssl" in {lib.package for lib in stage.sysroot()}) == wanted
    assert ("--without-openssl" in stage.phases["configure"][0]["run"]) != wanted
    [config] = [action["text"] for action in stage.phases["install"] if action.get("write", "").endswith("sshd_config")]
    assert ("ssh_host_rsa_key" in config) == wanted


@pytest.mark.sandbox
@pytest.mark.parametrize("name", NODE)
def test_a_result_has_the_licenses_and_no_path_of_the_machine(built: Callable[[str], Path], name: str) -> None:
    root = built(name)
    kept = {path.name for path in (root / LICENSES / name).iterdir()}
    assert kept == {file.replace("/", "-") for file in RECIPES[name].package.license_files}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert os.fsencode(ROOT) not in path.read_bytes(), path


@pytest.mark.sandbox
@pytest.mark.parametrize("name", NODE)
def test_programs_need_no_others_and_have_no_symbols(built: Callable[[str], Path], tools: Tools, name: str) -> None:
    root = built(name)
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    programs = [f"/dest/{path.relative_to(root)}" for path in files if path.read_bytes()[:4] == b"\x7fELF"]
    assert programs
    sandbox = tools.sandbox("build").with_mounts([Mount(source=root, target="/dest")])
    told = sandbox.run(["readelf", "--wide", "--segments", "--sections", *programs]).decode()
    assert told.count("There are ") >= len(programs)
    assert not re.findall(r"INTERP|DYNAMIC|\.symtab|\.debug_\w+", told)


# The start of sshd, with its real programs.


class Node:
    """A small machine with BusyBox and OpenSSH, whose /etc/ssh and /run are ``ssh`` and ``run``."""

    def __init__(self, top: Path, launcher: tuple[str, ...], packages: list[Path]) -> None:
        self.root, self.ssh, self.run, self._launcher = top / "root", top / "ssh", top / "run", launcher
        for path in (self.root, self.ssh, self.run):
            path.mkdir()
        merge(packages, self.root)
        for name in ("dev", "proc", "run", "tmp"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nsshd:x:22:22::/var/empty:/bin/false\n")
        # The sandbox has no right to the real port.
        config = (self.root / "etc/ssh/sshd_config").read_text()
        (self.ssh / "sshd_config").write_text(f"{config}\nListenAddress 127.0.0.1:2222\n")

    def sh(self, script: str, *, writable: bool = True) -> str:
        """Run a script, which may call ``start`` and ``wait_for``, beside a system log. Returns what it said."""
        ssh = Mount(source=self.ssh, target="/etc/ssh", writable=writable)
        run = Mount(source=self.run, target="/run", writable=True)
        before = """
            rm -f /run/*
            syslogd -L -O /run/log
            start() { /usr/lib/kiln/sshd & }
            # wait_for FILE [WORDS [LINES]]
            wait_for() { until [ "$(grep -cs "${2:-}" "$1")" -ge "${3:-1}" ]; do sleep 0.1; done; }
            """
        sandbox = Sandbox(root=self.root, launcher=self._launcher, mounts=(ssh, run))
        words = ["timeout", "60", "sh", "-euc", textwrap.dedent(before) + textwrap.dedent(script)]
        return sandbox.run(words).decode()

    def keys(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.ssh.iterdir() if path.name != "sshd_config"}


KEYS = {f"ssh_host_{kind}_key{end}" for kind in ("ecdsa", "ed25519", "rsa") for end in ("", ".pub")}


@pytest.fixture
def node(tmp_path: Path, tools: Tools, built: Callable[[str], Path]) -> Node:
    return Node(tmp_path, tools.launcher(), [built("busybox"), built("openssh")])


@pytest.mark.sandbox
def test_host_keys_are_made_at_the_first_start_and_sshd_hears_of_the_late_one(node: Node) -> None:
    node.sh("start; wait_for /etc/ssh/ssh_host_rsa_key; wait_for /run/log restarting; wait_for /run/log listening 2")
    keys = node.keys()
    assert set(keys) == KEYS
    [early, late] = re.findall(r"(sshd\[\d+\]): Server listening", (node.run / "log").read_text())
    assert early == late
    node.sh("start; wait_for /run/log listening; sleep 1")
    assert node.keys() == keys


@pytest.mark.sandbox
def test_what_a_killed_start_left_half_made_is_made_anew(node: Node) -> None:
    for kind in ("ed25519", "rsa"):
        for end in ("_key.new", "_key.new.pub", "_key.pub"):
            (node.ssh / f"ssh_host_{kind}{end}").write_text("half a k")
    (node.ssh / "ssh_host_ecdsa_key").touch()
    said = node.sh("""
        start
        wait_for /etc/ssh/ssh_host_rsa_key PRIVATE
        for key in /etc/ssh/*_key; do test "$(ssh-keygen -lf "$key")" = "$(ssh-keygen -lf "$key.pub")"; echo same; done
        """)
    assert said.count("same") == 3
    assert set(node.keys()) == KEYS


@pytest.mark.sandbox
def test_an_rsa_key_that_is_being_made_is_not_made_twice(node: Node) -> None:
    node.sh("""
        exec 8>/run/sshd-key.lock
        flock 8
        start
        wait_for /run/log listening
        sleep 1
        ls /etc/ssh > /run/before
        flock -u 8
        kill "$(cat /run/sshd.pid)"
        start
        wait_for /etc/ssh/ssh_host_rsa_key
        """)
    assert "rsa" not in (node.run / "before").read_text()
    assert set(node.keys()) == KEYS


@pytest.mark.sandbox
def test_a_folder_that_cannot_be_written_is_told_of_once_a_minute(node: Node) -> None:
    node.sh("start; wait_for /run/log 'the next try is in a minute'; sleep 2", writable=False)
    log = (node.run / "log").read_text()
    assert log.count("the next try is in a minute") == 1
    assert 'Saving key "/etc/ssh/ssh_host_ed25519_key.new" failed: Read-only file system' in log


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", [["-E", "-P"], ["-S"]])
def test_headers_that_a_package_brings_are_seen_before_those_of_the_c_library(
    built: Callable[[str], Path], tools: Tools, tmp_path: Path, kind: list[str]
) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/types.h").write_text("#define OURS 1\n")
    (tmp_path / "a.c").write_text("#include <sys/types.h>\n#include <errno.h>\nint seen = OURS + EIO;\n")
    folders = [(built("toolchain"), "/tools"), (tmp_path, "/src"), (built("musl"), "/sysroot")]
    sandbox = tools.sandbox("build").with_mounts([Mount(source=path, target=place) for path, place in folders])
    said = sandbox.with_env({"CCACHE_DISABLE": "1"}).run(
        ["x86_64-linux-musl-gcc", *kind, "-isystem", "/src", "-o", "-", "/src/a.c"]
    )
    assert (b"int seen = 1 + 5;" if "-E" in kind else b".long\t6") in said
