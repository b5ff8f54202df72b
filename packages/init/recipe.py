from ipaddress import IPv4Interface

from kiln import Board, KilnError, Option, Package, Step

init = Package(
    name="init",
    version="1",
    summary="the first programs of a boot, and the folders of a root file system",
    license="MIT",
    libc=False,
    runtime=("busybox",),
    options={
        "console": Option(default="ttyS0", doc="the terminal to log in at"),
        "autologin": Option(default=False, doc="whoever sits at the console is root, without a password"),
        "initramfs": Option(
            default="init",
            choices=("init", "shell"),
            doc="what /init of an initramfs leads to: the usual init, or a bare root shell",
        ),
    },
    modes={"tmp": 0o1777},
)

FOLDERS = ("dev", "mnt", "proc", "run", "sys", "tmp", "var/log")

PROFILE = """\
# Who logs in has a home and a shell; who gets the console without has neither.
[ "${HOME:-/}" != / ] || HOME=/root
export HOME SHELL="${SHELL:-/bin/sh}" PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\h:\\w\\$ '
cd "$HOME" || cd /
# Where a shell is all that runs, no init hears a plain poweroff.
[ -z "$KILN_BARE" ] || alias poweroff="poweroff -f" reboot="reboot -f" halt="halt -f"
"""

# Without -L, which should be the default, the syslogd of BusyBox 1.37.0 logs nothing that others send.
START = """\
::sysinit:/etc/init.d/rcS
::shutdown:/etc/init.d/rcK
::ctrlaltdel:/sbin/reboot
::respawn:/sbin/syslogd -n -L
::respawn:/sbin/klogd -n
"""


@init.install
def install(step: Step, board: Board) -> None:
    console, shell = step.option("console"), step.option("initramfs") == "shell"
    if shell and not step.option("autologin"):
        raise KilnError(
            "initramfs = 'shell' makes whoever sits at the console root", hint="set autologin = true to allow it"
        )
    for folder in FOLDERS:
        step.folder(folder)
    step.symlink("../run", "var/run")
    step.copy("files/init", "init", mode=0o755)
    step.copy("files/rcS", "etc/init.d/rcS", mode=0o755)
    step.copy("files/rcK", "etc/init.d/rcK", mode=0o755)
    login = "-/bin/sh" if step.option("autologin") else f"/sbin/getty -L 0 {console}"
    step.write("etc/inittab.d/00-start", START)
    step.write("etc/inittab.d/90-console", f"{console}::respawn:{login}\n")
    step.write("etc/kiln/init", "shell\n" if shell else "init\n")
    step.write("etc/profile", PROFILE)
    step.write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {board.hostname}\n::1 localhost\n")
    step.symlink("../run/resolv.conf", "etc/resolv.conf")
    if board.network != "none":
        step.copy("files/network", "usr/lib/kiln/network", mode=0o755)
        step.copy("files/ip-words", "usr/lib/kiln/ip-words", mode=0o755)
        step.write("etc/kiln/network", "".join(f"{word}\n" for word in words(board)))
        step.write("etc/inittab.d/10-network", "::respawn:/usr/lib/kiln/network watch\n")


def words(board: Board) -> list[str]:
    """What the board says of its network, in the words of the kernel's ``ip=``."""
    if board.network != "static":
        return ["dhcp"] if board.network == "dhcp" else []
    found = []
    for interface in board.interfaces:
        if len(interface.dns) > 2:
            raise KilnError(f"more than two name servers for {interface.name}", where="interfaces")
        address = IPv4Interface(interface.address)
        fields = (address.ip, "", interface.gateway, address.netmask, "", interface.name, "none", *interface.dns)
        found.append(":".join(map(str, fields)))
    return found
