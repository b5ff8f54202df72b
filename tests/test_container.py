"""A board for containers: its kernel has what they need, and the running system shows it."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.console import ROOT
from tests.test_boot import doit
from tests.test_network import Node

BOARD = "qemu-x86_64-container"

CHECKS = (
    "overlay",
    *(f"{kind} namespace" for kind in ("user", "net", "pid", "mount", "uts", "ipc", "time")),
    *(f"controller {name}" for name in ("cpu", "memory", "io", "pids", "cpuset")),
    "cgroup namespace",
    *(f"limit of {what}" for what in ("processes", "memory", "processor time")),
    "veth and bridge",
    "NAT",
    "security modules",
    "seccomp",
    "pseudo-terminals of its own",
)

pytestmark = pytest.mark.boot


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    doit("image", f"BOARD={BOARD}")
    node = Node(ROOT / "output" / BOARD)
    with closing(node.child):
        yield node


@pytest.mark.parametrize("purpose", ["container", "docker", "kubernetes", "security"])
def test_the_kernel_has_all_that_is_required(purpose: str) -> None:
    said = doit("kconfig:check", purpose, f"BOARD={BOARD}")
    assert f"that {purpose} looks for, and lacks 0 required" in said
    assert "missing" not in said


def test_the_guest_shows_it(node: Node) -> None:
    for _ in range(2):  # what the first one leaves behind would disturb the second
        lines = [line for line in node.ask("container-check").splitlines() if line.startswith(("ok ", "not ok "))]
        assert lines == [f"ok {name}" for name in CHECKS]


def test_the_check_says_no_where_something_is_missing(node: Node) -> None:
    said = node.ask(
        "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_net_namespaces",
        "container-check || echo status $?",
    )
    lines = [line for line in said.splitlines() if line.startswith(("not ok ", "status "))]
    names = ["user namespace", "net namespace", "veth and bridge", "NAT"]
    assert [line.partition(":")[0] for line in lines] == [*(f"not ok {name}" for name in names), "status 1"]


def test_drivers_are_modules_that_are_loaded_when_they_are_needed(node: Node) -> None:
    loaded = {line.split()[0] for line in node.ask("cat /proc/modules").splitlines()}
    assert {"veth", "bridge", "ip_tables", "iptable_nat", "xt_MASQUERADE", "nf_nat"} <= loaded
