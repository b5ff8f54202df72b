import pytest

from kiln.errors import KilnError
from kiln.image.manifest import Layer, Node, file_node
from kiln.image.services import inittab, is_fragment
from kiln.image.targets import Rootfs
from tests.project import Project


def fragment(package: str, name: str, text: str) -> Layer:
    folder = Node(path="etc/inittab.d", kind="dir", mode=0o755, package=package)
    return package, [folder, file_node(f"etc/inittab.d/{name}", text.encode(), package=package)]


def test_fragments_are_joined_in_the_order_of_their_names() -> None:
    packages = [fragment("init", "90-console", "ttyS0::respawn:sh"), fragment("sshd", "50-sshd", "::respawn:sshd\n")]
    (node,) = inittab(packages, [])
    assert (node.path, node.mode) == ("etc/inittab", 0o644)
    assert node.read() == b"::respawn:sshd\nttyS0::respawn:sh\n"


def test_an_overlay_replaces_a_fragment_or_brings_its_own() -> None:
    packages = [fragment("sshd", "50-sshd", "::respawn:sshd\n"), fragment("web", "60-web", "::respawn:httpd\n")]
    overlays = [fragment("overlay:common", "60-web", ""), fragment("overlay:test", "70-own", "::once:own\n")]
    assert inittab(packages, overlays)[0].read() == b"::respawn:sshd\n::once:own\n"


def test_two_packages_cannot_bring_one_fragment() -> None:
    with pytest.raises(KilnError, match=r"/etc/inittab\.d/50-sshd comes from dropbear and openssh\n"):
        inittab([fragment("dropbear", "50-sshd", ""), fragment("openssh", "50-sshd", "")], [])


def test_without_fragments_there_is_no_inittab() -> None:
    assert inittab([("tiny", [file_node("etc/motd", b"", package="tiny")])], []) == []


def test_fragments_themselves_are_told_apart() -> None:
    paths = {"etc/inittab.d": True, "etc/inittab.d/50-sshd": True, "etc/inittab": False, "etc/inittab.data": False}
    for path, expected in paths.items():
        assert is_fragment(file_node(path, b"", package="tiny")) == expected


@pytest.mark.sandbox
def test_a_board_brings_a_service_in_its_overlay(real_project: Project) -> None:
    real_project.file("board/test/overlay/etc/inittab.d/70-own", "::once:own\n")
    run = real_project.doit("rootfs")
    assert run.returncode == 0, run.stdout
    manifest = real_project.graph().image.deps[0]
    assert isinstance(manifest, Rootfs)
    nodes = {node.path: node for node in manifest.manifest().nodes}
    assert nodes["etc/inittab"].read() == b"::once:own\n"
    assert "etc/inittab.d" not in nodes
