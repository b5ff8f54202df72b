"""Users and their groups, and the files under /etc that tell of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

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
        where = f"user {self.name}"
        if not _NAME.fullmatch(self.name):
            hint = "up to 32 of a-z, 0-9, _ and -, with a letter or _ in front"
            raise KilnError(f"{self.name!r} is not a user name", hint=hint)
        for number in (self.uid, self.gid):
            # The last number means "leave as it is" to chown(2).
            if not 0 <= number < 2**32 - 1:
                raise KilnError(f"{number} is not a user or group number", where=where)
        for field in ("home", "shell", "comment"):
            value = getattr(self, field)
            if ":" in value or not value.isprintable():
                raise KilnError(f"{field} {value!r} has a colon or a line break", where=where)
            if field != "comment" and not value.startswith("/"):
                raise KilnError(f"{field} {value!r} is not an absolute path", where=where)
        if self.password != "locked" and not _HASH.fullmatch(self.password):
            hint = "make a hash with: openssl passwd -6"
            raise KilnError('password is neither "locked" nor a crypt(3) hash', where=where, hint=hint)


def account_nodes(users: Iterable[User]) -> list[Node]:
    """/etc/passwd, /etc/group, /etc/shadow and the home folders; a group has the name of its first user.

    Raises KilnError for a uid that is there twice, unknown groups, and where there is no root.
    """
    ordered = sorted(users, key=lambda user: user.uid)
    if not any(user.name == "root" and user.uid == 0 for user in ordered):
        raise KilnError("there is no user root with uid 0", hint="add root to the board's users")
    for user, other in pairwise(ordered):
        if user.uid == other.uid:
            raise KilnError(f"uid {user.uid} is that of {user.name} and of {other.name}", where="users")
    groups: dict[int, str] = {}
    for user in ordered:
        groups.setdefault(user.gid, user.name)
    for user in ordered:
        for group in user.groups:
            if group not in groups.values():
                raise KilnError(f"no group {group}", where=f"user {user.name}", hint=nearest(group, groups.values()))
    members = {group: ",".join(user.name for user in ordered if group in user.groups) for group in groups.values()}
    return [
        _file("etc/passwd", (f"{u.name}:x:{u.uid}:{u.gid}:{u.comment}:{u.home}:{u.shell}" for u in ordered)),
        _file("etc/group", (f"{group}:x:{gid}:{members[group]}" for gid, group in sorted(groups.items()))),
        _file(
            "etc/shadow", (f"{u.name}:{'*' if u.password == 'locked' else u.password}:::::::" for u in ordered), 0o600
        ),
        *(
            Node(path=user.home.strip("/"), kind="dir", mode=0o700, uid=user.uid, gid=user.gid, package=_PACKAGE)
            for user in ordered
            if user.home.strip("/")
        ),
    ]


def _file(path: str, lines: Iterable[str], mode: int = 0o644) -> Node:
    return file_node(path, "".join(f"{line}\n" for line in lines).encode(), package=_PACKAGE, mode=mode)
