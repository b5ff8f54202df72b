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


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([], "no user root"),
        ([User(name="root", uid=5, gid=0)], "no user root with uid 0"),
        ([ROOT, User(name="toor", uid=0, gid=0)], "uid 0 is that of root and of toor"),
        ([ROOT, User(name="kim", uid=1000, gid=1000, groups=("rot",))], "no group rot\n.*did you mean root"),
    ],
)
def test_users_that_do_not_fit_together_are_refused(users: list[User], message: str) -> None:
    with pytest.raises(KilnError, match=message):
        account_nodes(users)
