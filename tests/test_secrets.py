import json
import subprocess
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image.manifest import Node, file_node, tree_nodes
from kiln.image.secrets import guarded
from kiln.tools import Tools
from tests.project import Project

PEM = b"-----BEGIN %sPRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIN\n-----END %sPRIVATE KEY-----\n"


def node(data: bytes, path: str = "etc/key") -> Node:
    return file_node(path, data, package="overlay:test")


@pytest.mark.parametrize(
    "data",
    [
        PEM.replace(b"%s", b""),
        PEM.replace(b"%s", b"RSA "),
        PEM.replace(b"%s", b"ENCRYPTED "),
        b"a certificate\n" + PEM.replace(b"%s", b"EC ").replace(b"\n", b"\r\n"),
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n",
        b"\0\0\0\x0bssh-ed25519\0\0\0@" + bytes(64),
    ],
)
def test_a_private_key_is_refused_with_its_place_and_the_remedy(data: bytes) -> None:
    with pytest.raises(KilnError, match=r'^overlay:test: /etc/key is a private key\n.*private_keys = \["etc/key"\]'):
        guarded([node(b"x", "etc/a"), node(data)], [])


def test_a_key_that_the_board_allows_is_for_its_owner_alone() -> None:
    (key, other) = guarded([node(PEM.replace(b"%s", b"RSA ")), node(b"text", "etc/motd")], ["/etc/key"])
    assert (key.mode, other.mode) == (0o600, 0o644)


def test_an_allowed_key_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KilnError, match="private_keys: /etc/key is no private key of this image"):
        guarded([node(b"text")], ["etc/key"])


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\0-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n\0",
        b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n",
        b"ssh-ed25519 AAAAC3Nz kim\n",
    ],
)
def test_programs_that_know_keys_and_public_keys_are_none(data: bytes) -> None:
    assert guarded([node(data)], []) == [node(data)]


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_every_key_that_ssh_keygen_makes_is_seen(tools: Tools, tmp_path: Path, kind: str, form: str) -> None:
    tools["clients"].build()
    tree = tools["clients"].built().root
    libraries = f"{tree}/usr/lib/x86_64-linux-gnu"
    loader = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries]
    words = [f"{tree}/usr/bin/ssh-keygen", "-q", "-t", kind, "-m", form, "-N", "", "-f", f"{tmp_path}/key"]
    subprocess.run([*loader, *words], check=True)
    private, public = tree_nodes(tmp_path, "overlay:test")
    with pytest.raises(KilnError, match="/key is a private key"):
        guarded([private], [])
    assert guarded([public], []) == [public]


@pytest.mark.sandbox
def test_a_key_in_an_overlay_stops_the_image_until_the_board_says_that_it_means_it(real_project: Project) -> None:
    real_project.file("board/test/overlay/etc/deploy.key", (PEM % (b"RSA ", b"RSA ")).decode())
    run = real_project.doit("rootfs")
    assert run.returncode == 1
    assert "FAILED  rootfs\n  overlay:test: /etc/deploy.key is a private key" in run.stdout
    assert 'private_keys = ["etc/deploy.key"]' in run.stdout
    assert not list(real_project.store.glob("test-rootfs-*"))
    real_project.board(packages=[], more='private_keys = ["etc/deploy.key"]\n')
    assert real_project.doit("rootfs").returncode == 0
    (manifest,) = real_project.store.glob("test-rootfs-*/root/manifest.json")
    (key,) = (row for row in json.loads(manifest.read_text()) if row["path"] == "etc/deploy.key")
    assert (key["mode"], key["uid"]) == ("0600", 0)
