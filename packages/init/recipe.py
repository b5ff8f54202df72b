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
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\h:\\w# '
cd "$HOME" || cd /
# Where a shell is all that runs, no init hears a plain poweroff.
[ -z "$KILN_BARE" ] || alias poweroff="poweroff -f" reboot="reboot -f" halt="halt -f"
"""


@init.install
def install(step: Step, board: Board) -> None:
    console, shell = step.option("console"), step.option("initramfs") == "shell"
    if shell and not step.option("autologin"):
        raise KilnError(
            "initramfs = 'shell' makes whoever sits at the console root", hint="set autologin = true to allow it"
        )
    login = (
        f"{console}::respawn:-/bin/sh" if step.option("autologin") else f"{console}::respawn:/sbin/getty -L 0 {console}"
    )
    for folder in FOLDERS:
        step.folder(folder)
    step.copy("files/init", "init", mode=0o755)
    step.copy("files/rcS", "etc/init.d/rcS", mode=0o755)
    step.write("etc/kiln/init", "shell\n" if shell else "init\n")
    step.write("etc/profile", PROFILE)
    step.run(
        "sh",
        "-c",
        'sed "s|@CONSOLE@|$1|" "$2" > "$3"',
        "sh",
        login,
        step.input("files/inittab"),
        f"{step.dest}/etc/inittab",
    )
