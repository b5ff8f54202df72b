from kiln import Archive, Board, Debian, Kconfig, Option, Step

linux = Kconfig(
    name="linux",
    version="6.1.176",
    summary="the Linux kernel",
    source=Archive(
        "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.1.176.tar.xz",
        sha256="aa19772dba40e9737356c00d0671cdedbe26cc895eff062868f0a1f688ae44f6",
        mirrors=[
            Debian(
                "linux_6.1.176.orig.tar.xz",
                sha256="9aad4025973feea3f0d978e82ab7db97d8d5ce3f59fcc6b1f316153d66e3a504",
                content="sha256:23338f251c00fe5ddf5cd444b9d502600143fe981625940c871a08d672255d19",
            )
        ],
    ),
    versions={
        "6.12.94": Archive(
            "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.12.94.tar.xz",
            sha256="e998a232b9418db3301cb58468e291a4f41d6ab8306029b30d991f56251dc8d2",
            mirrors=[
                Debian(
                    "linux_6.12.94.orig.tar.xz",
                    sha256="3eea3dd18f67a103f6f8312e314075f695a27eaddd839e7b6c4641e6616dabba",
                    content="sha256:0c81b06cc0ce16201da3964f283d85616f660a4e7c42137b756fd1dfdf9d4c0e",
                )
            ],
        )
    },
    license="GPL-2.0-only WITH Linux-syscall-note",
    license_files=("COPYING", "LICENSES/preferred/GPL-2.0", "LICENSES/exceptions/Linux-syscall-note"),
    libc=False,
    options={
        "vmlinux": Option(default=False, doc="the kernel as the plain ELF file that small virtual machines start"),
    },
    defconfig="tinyconfig",
    flags=lambda board: (
        f"ARCH={board.arch.kernel}",
        f"CROSS_COMPILE={board.arch.tools}",
        # What the kernel would otherwise ask the build machine for its banner.
        "KBUILD_BUILD_TIMESTAMP=2026-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER=kiln",
        "KBUILD_BUILD_HOST=kiln",
        "KBUILD_BUILD_VERSION=1",
    ),
)


# What tells others of the modules: those that are files, and those that are built in.
LISTED = """\
release=$(cat include/config/kernel.release)
mkdir -p "$1/lib/modules/$release"
touch "$1/lib/modules/$release/modules.order"
cp modules.builtin modules.builtin.modinfo "$1/lib/modules/$release"
depmod -b "$1" "$release"
"""


def image(step: Step, board: Board) -> str:
    """The kernel's file below the build folder; its last part is what make calls it."""
    return "vmlinux" if step.option("vmlinux") else board.arch.image


def with_modules(*words: str) -> tuple[str, ...]:
    """A command that is for kernels with modules alone."""
    return ("sh", "-c", 'grep -q "^CONFIG_MODULES=y" .config || exit 0; exec "$@"', "sh", *words)


@linux.build
def build(step: Step, board: Board) -> None:
    step.run("cp", "-f", f"{step.config}/config", ".config")
    # Said on the command line, it changes no configuration, and so no object but its own. It is taken as it is.
    inside = (f"CONFIG_INITRAMFS_SOURCE={step.initramfs}",) if step.initramfs else ()
    step.run(*linux.command(step, board, image(step, board).rpartition("/")[2], *inside))
    step.run(*with_modules(*linux.command(step, board, "modules")))


@linux.install
def install(step: Step, board: Board) -> None:
    name = image(step, board).rpartition("/")[2]
    if name == "vmlinux":
        step.folder("boot")
        step.run(f"{board.arch.tools}strip", "-o", f"{step.dest}/boot/vmlinux", "vmlinux")
    else:
        step.install(board.arch.image, f"boot/{name}")
    # What takes how much room in it; a kernel whose configuration leaves out the linker's map goes without.
    told = f"{step.dest}/lib/kiln/kernel-sizes.json"
    words = ("python3", step.script("linkmap.py"), "vmlinux", "vmlinux.map", told)
    step.run("sh", "-c", '[ ! -e vmlinux.map ] || exec "$@"', "sh", *words)
    # Links to where it was built would lead nowhere.
    place = (f"INSTALL_MOD_PATH={step.dest}", "INSTALL_MOD_STRIP=1")
    step.run(*with_modules(*linux.command(step, board, "modules_install", *place)))
    step.run("sh", "-c", 'rm -f "$1"/lib/modules/*/build "$1"/lib/modules/*/source', "sh", step.dest)
    # A kernel without modules, too, says what it has built in, where those with modules say it.
    step.run("sh", "-c", LISTED, "sh", step.dest)
    step.install("System.map", "boot/System.map")
    step.install(".config", "boot/config")
