"""Secrets: private keys that were about to get into an image, where everyone who has it could read them."""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from kiln.errors import KilnError
from kiln.image.manifest import Node

# The forms that OpenSSL and OpenSSH write, PuTTY's, and dropbear's. Programs hold the first line alone.
_PRIVATE = re.compile(
    rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\r?\n[\w+/=:, -]"
    rb"|\APuTTY-User-Key-File-"
    rb"|\A\0\0\0.(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+)\0\0",
    re.MULTILINE,
)
# No key is longer, in bytes.
_LONGEST = 65536


def guarded(nodes: Iterable[Node], allowed: Collection[str]) -> list[Node]:
    """The same nodes, with the private keys that the board allows readable by their owner alone.

    Raises KilnError for a private key that it does not allow, and for a path of ``allowed`` that is none.
    """
    keys = {path.strip("/") for path in allowed}
    done = []
    for node in nodes:
        private = _is_private(node)
        if private and node.path not in keys:
            hint = f'everyone who has the image could use it; if the board means it: private_keys = ["{node.path}"]'
            raise KilnError(f"/{node.path} is a private key", where=node.package, hint=hint)
        done.append(replace(node, mode=0o600) if private else node)
        keys -= {node.path} if private else set()
    for path in sorted(keys):
        raise KilnError(f"/{path} is no private key of this image", where="private_keys", hint="remove that line")
    return done


def _is_private(node: Node) -> bool:
    return node.kind == "file" and node.size <= _LONGEST and _PRIVATE.search(node.read()) is not None
