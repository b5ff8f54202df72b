import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.image.manifest import CAPABILITIES, Manifest, Node, capability_value, file_node, tree_nodes
from kiln.recipe.package import Package
from kiln.tools import Tools


def folder(path: str, package: str, mode: int = 0o755, uid: int = 0) -> Node:
    return Node(path=path, kind="dir", mode=mode, uid=uid, package=package)


def link(path: str, target: str, package: str) -> Node:
    return Node(path=path, kind="symlink", mode=0o777, target=target, package=package)


def paths(manifest: Manifest) -> list[str]:
    return [node.path for node in manifest.nodes]


def test_layers_become_one_sorted_list_with_the_missing_folders() -> None:
    merged = Manifest.merge(
        [
            ("b", [file_node("usr/bin/tool", b"2", package="b")]),
            ("a", [folder("etc", "a"), file_node("etc/conf", b"1", package="a")]),
        ]
    )
    assert paths(merged) == ["etc", "etc/conf", "usr", "usr/bin", "usr/bin/tool"]
    added = merged.nodes[2]
    assert (added.kind, added.mode, added.uid, added.gid, added.package) == ("dir", 0o755, 0, 0, "b")


def test_two_owners_of_one_path_are_an_error_that_names_both_and_the_remedy() -> None:
    layers = [(name, [file_node("sbin/init", name.encode(), package=name)]) for name in ("busybox", "sysvinit")]
    with pytest.raises(KilnError) as caught:
        Manifest.merge(layers)
    for word in ("/sbin/init", "busybox", "sysvinit", '"sbin/init" = "sysvinit"', "[owners]"):
        assert word in str(caught.value)
    for key in ("sbin/init", "/sbin/init"):
        merged = Manifest.merge(layers, owners={key: "busybox"})
        assert [node.read() for node in merged.nodes if node.kind == "file"] == [b"busybox"]


def test_one_package_cannot_bring_a_path_twice() -> None:
    with pytest.raises(KilnError, match="/etc/motd"):
        Manifest.merge([("a", [file_node("etc/motd", b"", package="a")] * 2)])


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        ({"etc/motd": "sysvinit"}, "sysvinit does not bring /etc/motd"),
        ({"etc/issue": "base"}, "no package brings /etc/issue"),
    ],
)
def test_owners_that_decide_nothing_are_errors(owners: dict[str, str], message: str) -> None:
    with pytest.raises(KilnError, match=message):
        Manifest.merge([("base", [file_node("etc/motd", b"", package="base")])], owners=owners)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_one_special_folder_wins_over_plain_ones(order: tuple[int, ...]) -> None:
    layers = [("a", [folder("tmp", "a")]), ("b", [folder("tmp", "b", 0o1777)]), ("c", [folder("tmp", "c")])]
    merged = Manifest.merge(layers[index] for index in order)
    assert [(node.mode, node.package) for node in merged.nodes] == [(0o1777, "b")]


def test_two_different_special_folders_are_an_error_unless_an_owner_decides() -> None:
    layers = [("a", [folder("srv", "a", 0o700)]), ("b", [folder("srv", "b", uid=33)])]
    with pytest.raises(KilnError, match=r"0700 0:0 \(a\)") as caught:
        Manifest.merge(layers)
    assert "0755 33:0 (b)" in str(caught.value)
    assert Manifest.merge(layers, owners={"srv": "a"}).nodes[0].mode == 0o700
    same = [("a", [folder("srv", "a", 0o700)]), ("b", [folder("srv", "b", 0o700)])]
    assert Manifest.merge(same).nodes[0].mode == 0o700


def test_a_folder_and_a_link_of_one_name_are_an_error() -> None:
    with pytest.raises(KilnError, match="/lib comes from a and b"):
        Manifest.merge([("a", [folder("lib", "a")]), ("b", [link("lib", "usr/lib", "b")])])


@pytest.mark.parametrize(
    ("blocker", "what"),
    [(link("bin", "usr/bin", "base"), "a link from base"), (file_node("bin", b"", package="base"), "a file from base")],
)
def test_nothing_can_lie_below_a_link_or_a_file(blocker: Node, what: str) -> None:
    tool = file_node("bin/tool", b"", package="tool")
    with pytest.raises(KilnError, match=f"tool brings /bin/tool, but /bin is {what}"):
        Manifest.merge([("base", [blocker]), ("tool", [tool])])


@pytest.mark.parametrize("path", ["", "/etc", "etc/", "a//b", "../up", "a/./b", "nul\0", "caf\udce9", "a/" + "ü" * 128])
def test_a_path_that_no_image_can_hold_is_refused(path: str) -> None:
    with pytest.raises(KilnError):
        file_node(path, b"", package="a")


@pytest.mark.parametrize("target", ["", "nul\0"])
def test_a_link_to_nothing_is_refused(target: str) -> None:
    with pytest.raises(KilnError, match="/sh is a link to"):
        link("sh", target, "a")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True, mode=0o700)
    (root / "bin/su").write_bytes(b"su")
    (root / "bin/su").chmod(0o500)
    (root / "empty").mkdir()
    (root / "note").write_bytes(b"hello")
    (root / "note").chmod(0o600)
    (root / "bin/sh").symlink_to("su")
    return root


def test_a_tree_has_normal_permissions_but_for_those_listed(tree: Path) -> None:
    nodes = tree_nodes(tree, "p", modes={"/bin/su": 0o4755, "empty": 0o1777})
    assert [(node.path, node.kind, node.mode) for node in nodes] == [
        ("bin", "dir", 0o755),
        ("bin/sh", "symlink", 0o777),
        ("bin/su", "file", 0o4755),
        ("empty", "dir", 0o1777),
        ("note", "file", 0o644),
    ]
    assert {(node.uid, node.gid) for node in nodes} == {(0, 0)}


@pytest.mark.sandbox
def test_capabilities_have_the_numbers_that_the_kernel_gives_them(tools: Tools) -> None:
    header = (tools.sandbox("build").root / "usr/include/linux/capability.h").read_text()
    numbers = re.findall(r"^#define (CAP_\w+)\s+(\d+)$", header, re.MULTILINE)
    assert {name.lower(): int(number) for name, number in numbers} == {name: i for i, name in enumerate(CAPABILITIES)}


@pytest.mark.parametrize(
    ("names", "value"),
    [
        # As setcap writes cap_net_raw+ep, and so on.
        (("cap_net_raw",), "0100000200200000000000000000000000000000"),
        (("cap_setuid", "cap_bpf", "cap_setgid"), "01000002c0000000000000008000000000000000"),
    ],
)
def test_capabilities_are_written_as_the_kernel_reads_them(names: tuple[str, ...], value: str) -> None:
    assert capability_value(names).hex() == value
    assert file_node("ping", b"", package="p").xattrs == {}
    able = replace(file_node("ping", b"", package="p"), capabilities=names)
    assert able.xattrs == {"security.capability": bytes.fromhex(value)}


def test_a_tree_has_the_capabilities_that_are_listed(tree: Path) -> None:
    nodes = tree_nodes(tree, "p", capabilities={"/bin/su": ("cap_setuid", "cap_setgid")})
    assert {node.path: node.capabilities for node in nodes if node.capabilities} == {
        "bin/su": ("cap_setuid", "cap_setgid")
    }


@pytest.mark.parametrize(
    ("capabilities", "message"),
    [
        ({"bin/sudo": ("cap_setuid",)}, "p: /bin/sudo is not there\n  correct the capabilities that name it"),
        ({"bin/sh": ("cap_setuid",)}, "p: /bin/sh is a link and has no capabilities of its own"),
        ({"empty": ("cap_setuid",)}, "p: /empty is no file, and only files have capabilities"),
        ({"bin/su": ("cap_set_uid",)}, "'cap_set_uid' is no capability\n  did you mean cap_setuid"),
    ],
)
def test_capabilities_that_cannot_be_are_errors(
    tree: Path, capabilities: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(KilnError, match=message):
        tree_nodes(tree, "p", capabilities=capabilities)


@pytest.mark.parametrize(
    ("capabilities", "message"),
    [
        ({"bin/su": ("cap_set_uid",)}, "package p, capabilities: 'cap_set_uid' is no capability\n  did you mean"),
        ({"bin/su": "cap_setuid"}, "package p, capabilities: expected names by path"),
        ({"bin/su": (7,)}, "package p, capabilities: expected names by path"),
        ((), "package p, capabilities: expected names by path"),
    ],
)
def test_a_package_gives_capabilities_that_there_are(capabilities: Any, message: str) -> None:
    with pytest.raises(KilnError, match=message):
        Package(name="p", version="1", license="MIT", summary="", capabilities=capabilities)


@pytest.mark.parametrize("modes", [{"bin/sudo": 0o4755}, {"bin/sh": 0o755}])
def test_a_mode_for_what_is_not_there_or_for_a_link_is_an_error(tree: Path, modes: dict[str, int]) -> None:
    with pytest.raises(KilnError, match=next(iter(modes))):
        tree_nodes(tree, "p", modes=modes)


def test_what_cannot_be_in_a_tree_is_an_error(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(KilnError, match="/pipe is neither"):
        tree_nodes(tree, "p")
    with pytest.raises(KilnError, match=r"cannot read .*nowhere"):
        tree_nodes(tree / "nowhere", "p")


def test_an_unreadable_file_is_an_error() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "note").touch(mode=0)
        try:
            os.seteuid(user or 65534)  # root could read it
            with pytest.raises(KilnError, match=r"cannot read .*note: Permission denied"):
                tree_nodes(Path(folder), "p")
        finally:
            os.seteuid(user)


def test_json_tells_type_mode_owner_and_content(tree: Path) -> None:
    console = Node(path="dev/console", kind="char", mode=0o600, device=(5, 1), package="dev")
    merged = Manifest.merge([("p", tree_nodes(tree, "p", modes={"bin/su": 0o4755})), ("dev", [console])])
    rows = {row["path"]: row for row in merged.to_json()}
    assert list(rows) == sorted(rows)
    assert rows["dev/console"] == {
        "path": "dev/console",
        "type": "char",
        "mode": "0600",
        "uid": 0,
        "gid": 0,
        "device": [5, 1],
        "package": "dev",
    }
    assert rows["bin/sh"]["target"] == "su"
    assert rows["bin/su"]["mode"] == "4755"
    assert rows["note"]["size"] == 5
    assert rows["note"]["sha256"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_the_digest_follows_the_content_and_not_the_owner() -> None:
    def one(package: str, data: bytes, mode: int = 0o644) -> str:
        return Manifest.merge([(package, [file_node("f", data, package=package, mode=mode)])]).digest()

    assert one("a", b"x") == one("b", b"x")
    assert len({one("a", b"x"), one("a", b"y"), one("a", b"x", 0o755)}) == 3


def test_the_digest_follows_the_capabilities_whatever_their_order() -> None:
    def one(*capabilities: str) -> str:
        node = replace(file_node("f", b"x", package="p"), capabilities=capabilities)
        return Manifest.merge([("p", [node])]).digest()

    assert one("cap_chown", "cap_bpf") == one("cap_bpf", "cap_chown")
    assert len({one(), one("cap_chown"), one("cap_chown", "cap_bpf")}) == 3
    # What images were made from before there were capabilities is what they are made from now.
    assert one() == "914e2e11df437b1e6006d4f2f0ced3a726db0c07eb259f644a37837dbd3ae214"


def test_a_file_that_changed_since_is_an_error(tree: Path) -> None:
    node = next(node for node in tree_nodes(tree, "p") if node.path == "note")
    assert node.read() == b"hello"
    (tree / "note").write_bytes(b"HELLO")
    with pytest.raises(KilnError, match="/note changed"):
        node.read()
