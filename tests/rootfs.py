"""A root file system with one of everything, for the tests of those that write it."""

from kiln.image.manifest import Layer, Manifest, Node, file_node

ODD_NAMES = ('a b"c', "it's #1", "back\\slash [x]*?", "<7>", "-n", "ümlaut", "x" * 120)


def layer(*, backwards: bool = False) -> Layer:
    package = "sample"
    nodes = [
        file_node("bin/su", b"\x7fELF" + bytes(9000), package=package, mode=0o4755),
        file_node("etc/empty", b"", package=package),
        file_node("etc/shadow", b"root:*:::::::\n", package=package, mode=0o600),
        Node(path="bin/sh", kind="symlink", mode=0o777, target="su", package=package),
        Node(path="usr/far", kind="symlink", mode=0o777, target="../" * 30 + "bin/su", package=package),
        Node(path="dev/null", kind="char", mode=0o666, device=(1, 3), package=package),
        Node(path="dev/sda", kind="block", mode=0o660, gid=6, device=(259, 300), package=package),
        Node(path="run/a pipe", kind="fifo", mode=0o620, uid=7, package=package),
        Node(path="home/kim", kind="dir", mode=0o700, uid=100000, gid=70000, package=package),
        Node(path="tmp", kind="dir", mode=0o1777, package=package),
        *(file_node(f"odd/{name}/{name}", name.encode(), package=package) for name in ODD_NAMES),
    ]
    return package, nodes[::-1] if backwards else nodes


def sample(*, backwards: bool = False) -> Manifest:
    return Manifest.merge([layer(backwards=backwards)])
