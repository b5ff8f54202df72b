from collections.abc import Iterable
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.image.accounts import User, account_nodes
from kiln.image.manifest import Manifest

HASH = "$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g."
ROOT = User(name="root", uid=0, gid=0, home="/root", password=HASH)


def files(users: Iterable[User]) -> dict[str, str]:
    return {node.path: node.read().decode() for node in account_nodes(users) if node.kind == "file"}


def test_the_files_and_homes_of_three_users() -> None:
    www = User(name="www", uid=33, gid=33, shell="/bin/false", comment="Web", groups=("root", "kim"))
    kim = User(name="kim", uid=1000, gid=1000, home="/home/kim", groups=("root",))
    assert files([kim, ROOT, www]) == {
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nwww:x:33:33:Web:/:/bin/false\nkim:x:1000:1000::/home/kim:/bin/sh\n",
        "etc/group": "root:x:0:www,kim\nwww:x:33:\nkim:x:1000:www\n",
        "etc/shadow": f"root:{HASH}:::::::\nwww:*:::::::\nkim:*:::::::\n",
    }
    merged = Manifest.merge([("users", account_nodes([kim, ROOT]))])
    nodes = {node.path: node for node in merged.nodes}
    assert {path: (node.kind, node.mode, node.uid, node.gid) for path, node in nodes.items()} == {
        "etc": ("dir", 0o755, 0, 0),
        "etc/group": ("file", 0o644, 0, 0),
        "etc/passwd": ("file", 0o644, 0, 0),
        "etc/shadow": ("file", 0o600, 0, 0),
        "home": ("dir", 0o755, 0, 0),
        "home/kim": ("dir", 0o700, 1000, 1000),
        "root": ("dir", 0o700, 0, 0),
    }


def test_a_group_has_the_name_of_its_first_user() -> None:
    guest, kim = User(name="guest", uid=1001, gid=7), User(name="kim", uid=1000, gid=7)
    assert files([guest, ROOT, kim])["etc/group"] == "root:x:0:\nkim:x:7:\n"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "Kim"}, "'Kim' is not a user name"),
        ({"name": "a:b"}, "not a user name"),
        ({"name": ""}, "not a user name"),
        ({"uid": -1}, "-1 is not"),
        ({"gid": 2**32 - 1}, "is not a user or group number"),
        ({"comment": "a:b"}, "comment 'a:b' has a colon"),
        ({"comment": "a\nb"}, "comment .* has a colon or a line break"),
        ({"shell": "/bin/sh\n"}, "shell .* has a colon or a line break"),
        ({"home": "home/kim"}, "home 'home/kim' is not an absolute path"),
        ({"password": ""}, "neither"),
        ({"password": "secret"}, "neither"),
        ({"password": "$ecret"}, "neither"),
        ({"password": "$6$a$b:c"}, "neither"),
    ],
)
def test_a_field_that_cannot_be_is_refused(field: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"name": "kim", "uid": 1000, "gid": 1000} | field
    with pytest.raises(KilnError, match=message):
        User(**values)


def test_a_refused_password_is_not_shown() -> None:
    with pytest.raises(KilnError) as caught:
        User(name="kim", uid=1000, gid=1000, password="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "openssl passwd" in str(caught.value)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKrYRXz7ZN8b3OS7Yd0zSEXAMPLEEXAMPLEEXAMPLEEXA kim@home"


def test_keys_that_may_log_in_are_the_users_own() -> None:
    text = f'# of kim\n{KEY}\n\nfrom="10.0.2.*",command="echo \\"a b\\"" {KEY}\necdsa-sha2-nistp256 AAAAE2Vj\n'
    kim = User(name="kim", uid=1000, gid=100, home="/home/kim", authorized_keys=text)
    nodes = {node.path: node for node in account_nodes([ROOT, kim])}
    for path, kind, mode in (
        ("home/kim", "dir", 0o700),
        ("home/kim/.ssh", "dir", 0o700),
        ("home/kim/.ssh/authorized_keys", "file", 0o600),
    ):
        found = nodes[path]
        assert (found.kind, found.mode, found.uid, found.gid) == (kind, mode, 1000, 100)
    assert nodes["home/kim/.ssh/authorized_keys"].read().decode() == text
    assert "root/.ssh" not in nodes
    assert "kim:*:" in nodes["etc/shadow"].read().decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n", r"no public key: -----BEGIN(.|\n)*\.pub"),
        ("kim@home\n", "no public key: kim@home"),
        ("ssh-ed25519\n", "no public key: ssh-ed25519"),
    ],
)
def test_what_is_no_public_key_is_refused(text: str, message: str) -> None:
    with pytest.raises(KilnError, match=message):
        User(name="kim", uid=1000, gid=1000, home="/home/kim", authorized_keys=text)


def test_keys_need_a_home() -> None:
    with pytest.raises(KilnError, match="no home folder"):
        User(name="kim", uid=1000, gid=1000, authorized_keys=KEY)


def test_accounts_of_services_have_no_home_of_their_own() -> None:
    sshd = User(name="sshd", uid=22, gid=22, home="/var/empty", shell="/bin/false")
    nodes = {node.path: node for node in account_nodes([ROOT], system=[sshd], groups={"tty": 5})}
    assert set(nodes) == {"etc/passwd", "etc/group", "etc/shadow", "root"}
    assert nodes["etc/passwd"].read().decode().endswith("sshd:x:22:22::/var/empty:/bin/false\n")
    assert nodes["etc/group"].read().decode() == "root:x:0:\ntty:x:5:\nsshd:x:22:\n"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"tty": 5, "dialout": 5}, "two groups have the same number"),
        ({"TTY": 5}, "'TTY' is no name of one group"),
        ({"kim": 5}, "'kim' is no name of one group"),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(groups: dict[str, int], message: str) -> None:
    with pytest.raises(KilnError, match=message):
        account_nodes([ROOT, User(name="kim", uid=1000, gid=1000)], groups=groups)


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([], "no user root"),
        ([User(name="root", uid=5, gid=0)], "no user root with uid 0"),
        ([ROOT, User(name="toor", uid=0, gid=0)], "uid 0 is that of root and of toor"),
        ([ROOT, User(name="kim", uid=1, gid=1), User(name="kim", uid=2, gid=2)], "kim has the uids 1 and 2"),
        ([ROOT, User(name="kim", uid=1000, gid=1000, groups=("rot",))], "no group rot\n.*did you mean root"),
    ],
)
def test_users_that_do_not_fit_together_are_refused(users: list[User], message: str) -> None:
    with pytest.raises(KilnError, match=message):
        account_nodes(users)
