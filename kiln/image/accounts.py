"""Users and their groups, and the files under /etc that tell of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from kiln.errors import KilnError, nearest
from kiln.image.manifest import Node, file_node

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HASH = re.compile(r"\$[a-z0-9-]+\$[!-9;-~]+")
# A line of authorized_keys: options, the kind of key, the key, and whose it is.
_KEY = re.compile(r"(?:\S.* )?(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ +AAAA[A-Za-z0-9+/=]+(?: .*)?")
_PACKAGE = "users"


@dataclass(frozen=True, kw_only=True)
class User:
    """An account. ``password`` is "locked" (keys may still log in) or a crypt(3) hash; ``groups`` are further ones.

    ``authorized_keys`` is the text of that file: the keys that may log in. Raises KilnError for a field that
    /etc/passwd cannot hold, for a password in plain text, and for what is no public key.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"
    shell: str = "/bin/sh"
    comment: str = ""
    password: str = "locked"
    groups: tuple[str, ...] = ()
    authorized_keys: str = ""

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
        if self.authorized_keys and self.home == "/":
            raise KilnError("has keys, but no home folder for them", where=where, hint='such as home = "/home/kim"')
        for line in map(str.strip, self.authorized_keys.splitlines()):
            if line and not line.startswith("#") and not _KEY.fullmatch(line):
                hint = "name the file with the public half, whose name ends in .pub"
                raise KilnError(f"authorized_keys: this is no public key: {line[:40]}", where=where, hint=hint)


def account_nodes(users: Iterable[User], *, system: Iterable[User] = (), groups: Mapping[str, int] = {}) -> list[Node]:
    """/etc/passwd, /etc/group, /etc/shadow, and homes with their keys; a group has the name of its first user.

    ``system`` are the accounts of services, without homes; ``groups`` are those that no user brings, by number.
    Raises KilnError for a name or number that is there twice, unknown groups, and where there is no root.
    """
    people = sorted(users, key=lambda user: user.uid)
    ordered = sorted((*people, *system), key=lambda user: user.uid)
    if not any(user.name == "root" and user.uid == 0 for user in ordered):
        raise KilnError("there is no user root with uid 0", hint="add root to the board's users")
    for user, other in pairwise(ordered):
        if user.uid == other.uid:
            raise KilnError(f"uid {user.uid} is that of {user.name} and of {other.name}", where="users")
    for user, other in pairwise(sorted(ordered, key=lambda user: user.name)):
        if user.name == other.name:
            raise KilnError(f"{user.name} has the uids {user.uid} and {other.uid}", where="users")
    by_number = {gid: name for name, gid in groups.items()}
    if len(by_number) < len(groups):
        raise KilnError("two groups have the same number", where="groups")
    for user in ordered:
        by_number.setdefault(user.gid, user.name)
    names = list(by_number.values())
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise KilnError(f"{name!r} is no name of one group", where="groups")
    for user in ordered:
        for group in user.groups:
            if group not in names:
                raise KilnError(f"no group {group}", where=f"user {user.name}", hint=nearest(group, names))
    members = {group: ",".join(user.name for user in ordered if group in user.groups) for group in names}
    return [
        _file("etc/passwd", (f"{u.name}:x:{u.uid}:{u.gid}:{u.comment}:{u.home}:{u.shell}" for u in ordered)),
        _file("etc/group", (f"{group}:x:{gid}:{members[group]}" for gid, group in sorted(by_number.items()))),
        _file(
            "etc/shadow", (f"{u.name}:{'*' if u.password == 'locked' else u.password}:::::::" for u in ordered), 0o600
        ),
        *(node for user in people for node in _home(user)),
    ]


def _home(user: User) -> Iterator[Node]:
    home = user.home.strip("/")
    if home:
        yield Node(path=home, kind="dir", mode=0o700, uid=user.uid, gid=user.gid, package=_PACKAGE)
    if user.authorized_keys:
        yield Node(path=f"{home}/.ssh", kind="dir", mode=0o700, uid=user.uid, gid=user.gid, package=_PACKAGE)
        keys = file_node(f"{home}/.ssh/authorized_keys", user.authorized_keys.encode(), package=_PACKAGE, mode=0o600)
        yield replace(keys, uid=user.uid, gid=user.gid)


def _file(path: str, lines: Iterable[str], mode: int = 0o644) -> Node:
    return file_node(path, "".join(f"{line}\n" for line in lines).encode(), package=_PACKAGE, mode=mode)
