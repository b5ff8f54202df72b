"""What is wrong in configurations of dracut, and the line to write instead."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kiln.dracut.conf import Statement, parse
from kiln.errors import nearest

# Where dracut's modules are.
MODULES = "usr/lib/dracut/modules.d"

# The keys that hold lists, and the rest, as dracut.conf(5) of dracut 112 has them.
_LIST_KEYS = """
    add_device add_dlopen_features add_dracutmodules add_drivers add_fstab dracutmodules drivers filesystems
    force_add_dracutmodules force_drivers fscks fw_dir hostonly_nics install_items install_optional_items libdirs
    omit_dlopen_features omit_dracutmodules omit_drivers remove_items
"""
_WORD_KEYS = """
    acpi_override acpi_table_dir aggressive_strip compress compress_level_bzip2 compress_level_gzip compress_level_lz4
    compress_level_lzma compress_level_lzop compress_level_xz compress_level_zstd do_hardlink do_strip
    dracut_rescue_image drivers_dir early_microcode enhanced_cpio fileloglvl hostonly hostonly_cmdline hostonly_mode
    i18n_default_font i18n_install_all i18n_vars initrdname kernel_cmdline kernel_image kernel_only logfile loginstall
    lvmconf machine_id mdadmconf no_kernel nofscks noimageifnotneeded parallel persistent_policy prefix reproducible
    ro_mnt sbat show_modules squash_compress sshkey stdloglvl sysloglvl tmpdir udevdir uefi uefi_secureboot_cert
    uefi_secureboot_engine uefi_secureboot_key uefi_splash_image uefi_stub use_fstab
"""
_LISTS, _WORDS = frozenset(_LIST_KEYS.split()), frozenset(_WORD_KEYS.split())
_DRIVERS = frozenset(("add_drivers", "force_drivers", "omit_drivers"))
_MODULES = frozenset(("add_dracutmodules", "force_add_dracutmodules", "omit_dracutmodules"))

# Lists that leave out all that they do not name, and the one that only adds.
_EXCLUSIVE = {"dracutmodules": "add_dracutmodules", "drivers": "add_drivers", "filesystems": "add_drivers"}

# What would describe the machine that builds, and never the one that boots.
_OF_THE_HOST = {
    "hostonly": ("takes the drivers of the machine that builds", 'hostonly="no"'),
    "hostonly_cmdline": ("writes the root of the machine that builds into the image", 'hostonly_cmdline="no"'),
    "hostonly_mode": ("is about the machine that builds", ""),
    "hostonly_nics": ("are network cards of the machine that builds", ""),
    "use_fstab": ("reads /etc/fstab of the machine that builds", ""),
    "add_fstab": ("adds file systems of the machine that builds", ""),
    "add_device": ("are devices of the machine that builds", 'add_dracutmodules+=" lvm "'),
    "mdadmconf": ("copies mdadm.conf of the machine that builds", 'add_dracutmodules+=" mdraid "'),
    "lvmconf": ("copies lvm.conf of the machine that builds", 'add_dracutmodules+=" lvm "'),
    "persistent_policy": ("names devices of the machine that builds", ""),
}
_OFF = ("no", "")

# Keys that do nothing here, and who does it.
_ELSEWHERE = {
    "compress": 'the board says it: compress = "{value}" in configs/',
    "early_microcode": 'the board says it: early = ["amd-microcode", "intel-microcode"] in configs/',
    "tmpdir": "dracut has a folder of its own in the sandbox",
    "kernel_cmdline": "the board says it: cmdline in configs/",
}
# Keys that are none, by what was meant.
_MEANT = {"verbose": 'stdloglvl="4"'}

# Names that people take for kernel modules.
_NO_DRIVERS = {
    "apparmor": "a security module is built into the kernel: CONFIG_SECURITY_APPARMOR=y in a fragment",
    "aufs": "it never became a part of Linux: overlay took its place",
    "cgroup": "it is a feature of the kernel: CONFIG_CGROUPS=y in a fragment",
    "containerd": "it is a program, and belongs into the root file system",
    "crio": "it is a program, and belongs into the root file system",
    "ima": "it is built into the kernel: CONFIG_IMA=y in a fragment; the dracut module integrity loads its policy",
    "namespace": "it is a feature of the kernel: CONFIG_NAMESPACES=y in a fragment",
    "netns": "it is a feature of the kernel: CONFIG_NET_NS=y in a fragment",
    "selinux": "a security module is built into the kernel: CONFIG_SECURITY_SELINUX=y in a fragment; the dracut"
    " module selinux loads its policy",
}
# Drivers of what needs more than a driver, with the dracut module that brings all of it.
_WITH_PROGRAMS = {"dm_crypt": "crypt", "iscsi_tcp": "iscsi", "nfs": "nfs", "nbd": "nbd", "raid1": "mdraid"}
# What a dracut module does nothing without.
_DRIVER_OF = {
    "btrfs": "btrfs", "crypt": "dm_crypt", "dmsquash-live": "squashfs", "iscsi": "iscsi_tcp", "lvm": "dm_mod",
    "mdraid": "md_mod", "nbd": "nbd", "nfs": "nfsv4", "overlayfs": "overlay",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Known:
    """What there is to name: dracut's modules, the kernel's modules, and the drivers that it has built in."""

    modules: Collection[str]
    drivers: Collection[str]
    builtin: Collection[str]

    @staticmethod
    def of(*roots: Path, own: Iterable[str] = ()) -> "Known":
        """What the results of packages, or a root file system, have; ``own`` are the folders of further modules."""
        folders = [*own, *(path.name for root in roots for path in root.glob(f"{MODULES}/*"))]
        modules = {name.lstrip("0123456789") for name in folders}
        lists = {name: _drivers(roots, f"modules.{name}") for name in ("order", "builtin")}
        return Known(modules=modules, drivers=lists["order"], builtin=lists["builtin"])


def _drivers(roots: Iterable[Path], name: str) -> set[str]:
    """The drivers in lists that a kernel brings, by the names that it gives them in /proc/modules."""
    files = [file for root in roots for file in root.glob(f"lib/modules/*/{name}")]
    lines = [line for file in files for line in file.read_text().splitlines()]
    return {Path(line).name.partition(".")[0].replace("-", "_") for line in lines}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``wrong`` tells a mistake from what is only needless. ``instead`` is what to write, if anything."""

    number: int
    text: str
    instead: str = ""
    wrong: bool = True


def lint(text: str, known: Known, *, useful: bool = True) -> Iterator[Finding]:
    """All that can be said about a configuration, line by line.

    With ``useful``, dracut's modules must be of use to this kernel, if it says what it has built in.
    """
    for statement in parse(text):
        yield from _check(statement, known)
        if useful and known.builtin and statement.key in _MODULES and statement.key != "omit_dracutmodules":
            yield from _useless(statement, known)


def _check(statement: Statement, known: Known) -> Iterator[Finding]:
    number, key = statement.number, statement.key
    if not key:
        yield _no_assignment(statement)
        return
    if statement.live:
        yield Finding(number=number, text=f"{key}: a shell would run or look up a part of it when dracut reads it")
    if key not in _LISTS | _WORDS:
        text = f"{key}: dracut knows no such key, and passes over it without a word"
        instead = _MEANT.get(key, "")
        yield Finding(number=number, text=text, instead=instead or _hint(key, _LISTS | _WORDS))
    elif key in _OF_THE_HOST and statement.value not in _OFF:
        why, instead = _OF_THE_HOST[key]
        yield Finding(number=number, text=f"{key}: {why}", instead=instead)
    elif key in _ELSEWHERE:
        yield Finding(number=number, text=f"{key}: {_ELSEWHERE[key].format(value=statement.value)}", wrong=False)
    elif key in _EXCLUSIVE:
        yield _exclusive(statement)
    elif key in _LISTS:
        yield from _list(statement, known)


def _no_assignment(statement: Statement) -> Finding:
    first = statement.text.split()[0]
    if first.startswith("rd."):
        text = f"{first}: is a parameter of the kernel's command line: cmdline of the board"
        if first.startswith("rd.loops"):
            text = f"{first}: there is no such parameter, here or on the command line"
        return Finding(number=statement.number, text=text)
    return Finding(number=statement.number, text="no assignment: dracut would run it as a command while it builds")


def _exclusive(statement: Statement) -> Finding:
    key, words = statement.key, " ".join(statement.words)
    adding = _EXCLUSIVE[key]
    lost = {"dracutmodules": "even the module base, and with it /init", "drivers": "every other driver"}
    text = f"{key}: leaves out all that it does not name: {lost.get(key, 'every other file system')}"
    return Finding(number=statement.number, text=text, instead=f'{adding}+=" {words} "')


def _list(statement: Statement, known: Known) -> Iterator[Finding]:
    number, key, words = statement.number, statement.key, statement.words
    left = []
    for word in words:
        finding = None
        if key in _MODULES and word not in known.modules and key != "omit_dracutmodules":
            finding = Finding(
                number=number, text=f"{key}: dracut has no module {word}", instead=_hint(word, known.modules)
            )
        elif key in _DRIVERS and not word.startswith("="):
            finding = _driver(number, key, word, known)
        if finding:
            yield finding
        if not finding or not finding.wrong:
            left.append(word)
    if not (statement.value.startswith(" ") and statement.value.endswith(" ")) or not statement.adds:
        text = f"{key}: without += and a blank at both ends its values run together with others, or replace them"
        yield Finding(number=number, text=text, instead=f'{key}+=" {" ".join(left)} "' if left else "")


def _useless(statement: Statement, known: Known) -> Iterator[Finding]:
    for word in statement.words:
        driver = _DRIVER_OF.get(word)
        if driver and driver not in known.drivers and driver not in known.builtin:
            text = f"{statement.key}: this kernel has no {driver}, without which {word} does nothing"
            instead = "[kconfig] linux of the board takes a fragment that has it, such as storage, btrfs or nfsroot"
            yield Finding(number=statement.number, text=text, instead=instead)


def _driver(number: int, key: str, word: str, known: Known) -> Finding | None:
    plain = word.replace("-", "_")
    if plain in _NO_DRIVERS:
        return Finding(number=number, text=f"{key}: {word} is no kernel module: {_NO_DRIVERS[plain]}")
    if key == "omit_drivers":
        return None
    if plain in _WITH_PROGRAMS:
        module = _WITH_PROGRAMS[plain]
        text = f"{key}: {word} alone does nothing: its programs come with the dracut module {module}"
        return Finding(number=number, text=text, instead=f'add_dracutmodules+=" {module} "', wrong=False)
    if plain in known.builtin:
        return Finding(number=number, text=f"{key}: {word} is built into this kernel, and needs no line", wrong=False)
    if plain not in known.drivers:
        text = f"{key}: this kernel has no module {word}"
        return Finding(number=number, text=text, instead=_hint(plain, [*known.drivers, *known.builtin]))
    return None


def _hint(word: str, choices: Collection[str]) -> str:
    found = nearest(word, choices)
    return found if found.startswith("did you mean") else ""
