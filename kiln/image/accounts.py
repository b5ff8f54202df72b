"""Users and groups, and the files under /etc that tell of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kiln.errors import KilnError, nearest
from kiln.image.manifest import Node, file_node

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HASH = re.compile(r"\$[a-z0-9-]+\$[!-9;-~]+")
_PACKAGE = "users"


@dataclass(frozen=True, kw_only=True)
class User:
    """An account. ``password`` is "locked" (keys may still log in) or a crypt(3) hash; ``groups`` are further ones.

    Raises KilnError for a field that /etc/passwd cannot hold, and for a password in plain text.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"
    shell: str = "/bin/sh"
    comment: str = ""
    password: str = "locked"
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.name, self.uid, "user")
        _check(self.name, self.gid, "user")
        for field in ("home", "shell", "comment"):
            value = getattr(self, field)
            if ":" in value or not (value.isprintable()):
                raise KilnError(f"{field} {value!r} has a colon or a line break", where=f"user {self.name}")
            if field != "comment" and not value.startswith("/"):
                raise KilnError(f"{field} {value!r} is not an absolute path", where=f"user {self.name}")
        if self.password != "locked" and not _HASH.fullmatch(self.password):
            raise KilnError(
                'password is neither "locked" nor a crypt(3) hash',
                where=f"user {self.name}",
                hint="make a hash with: openssl passwd -6",
            )


def account_nodes(users: Iterable[User], groups: Mapping[str, int] = {}) -> list[Node]:
    """/etc/passwd, /etc/group, /etc/shadow and the home folders.

    ``groups`` are those (name to gid) that are no user's own; a user whose gid is not among them gets a group of the
    same name. Raises KilnError for duplicates, unknown groups, and where there is no root.
    """
    ordered = sorted(users, key=lambda user: user.uid)
    for group, gid in groups.items():
        _check(group, gid, "group")
    _unique([("user", user.name) for user in ordered] + [("uid", user.uid) for user in ordered])
    if not any(user.name == "root" and user.uid == 0 for user in ordered):
        raise KilnError("there is no user root with uid 0", hint="add root to the board's users")
    gids = dict(groups)
    for user in ordered:
        if user.gid not in gids.values():
            _unique([("group", name) for name in (*gids, user.name)])
            gids[user.name] = user.gid
    _unique([("gid", gid) for gid in gids.values()])
    for user in ordered:
        for group in user.groups:
            if group not in gids:
                raise KilnError(f"no group {group}", where=f"user {user.name}", hint=nearest(group, gids))
    passwd = [f"{u.name}:x:{u.uid}:{u.gid}:{u.comment}:{u.home}:{u.shell}" for u in ordered]
    shadow = [f"{u.name}:{'*' if u.password == 'locked' else u.password}:::::::" for u in ordered]
    group_lines = [
        f"{group}:x:{gid}:{','.join(user.name for user in ordered if group in user.groups)}"
        for group, gid in sorted(gids.items(), key=lambda item: item[1])
    ]
    homes = [
        Node(path=user.home.strip("/"), kind="dir", mode=0o700, uid=user.uid, gid=user.gid, package=_PACKAGE)
        for user in ordered
        if user.home.strip("/")
    ]
    return [
        _file("etc/passwd", passwd, 0o644),
        _file("etc/group", group_lines, 0o644),
        _file("etc/shadow", shadow, 0o600),
        *homes,
    ]


def _file(path: str, lines: list[str], mode: int) -> Node:
    return file_node(path, "".join(f"{line}\n" for line in lines).encode(), package=_PACKAGE, mode=mode)


def _check(name: str, number: int, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise KilnError(
            f"{name!r} is not a {what} name", hint="up to 32 of a-z, 0-9, _ and -, with a letter or _ in front"
        )
    # The last number means "leave as it is" to chown(2).
    if not 0 <= number < 2**32 - 1:
        raise KilnError(f"{number} is not a user or group number", where=f"{what} {name}")


def _unique(values: list[tuple[str, str | int]]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise KilnError(f"{value[0]} {value[1]} is there twice", where="users")
        seen.add(value)
