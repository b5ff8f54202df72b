"""What lies behind the words of dracut's initramfs in a boot's log."""

import re

from kiln.vm.causes import DISKS, FILE_SYSTEMS, Account, Case

_BY = re.compile(r"/dev/disk/by-(label|uuid|partlabel|partuuid)/(.+)")
# What a hook of a module that `doit new-dracut-module` wrote says of itself.
_HOOK = re.compile(r"^dracut: ([\w-]+: [\w/-]+)$")


def absent(case: Case) -> Account:
    """The root's device never came."""
    setup, device = case.setup, case[1]
    found = _BY.fullmatch(device)
    means = f"root={f'{found[1].upper()}={found[2]}' if found else device} names nothing"
    if device.startswith("/dev/mapper/"):
        then = (
            f'dracut = ["luks", "lvm"] in {setup.file} puts such devices together: rd.luks.uuid= or rd.lvm.lv= names it'
        )
        return f"{means}: the device mapper did not make it", then
    if disks := case.disks:
        means += f"; the kernel found: {', '.join(disks)}"
    elif case.has("Linux version"):  # else the kernel was quiet
        kind = next((kind for kind in DISKS if device.removeprefix("/dev/").startswith(kind)), "vd")
        if lacking := setup.missing(*DISKS[kind]):
            return f"{means}, and the kernel has no driver for it: {setup.state(lacking)}", setup.enable(lacking)
        means += "; the kernel found no disk"
    return means, f"correct root=; in dracut's shell, `blkid` lists all, and `ln -s /dev/NAME {device}; exit` goes on"


def unmountable(case: Case) -> Account:
    """The root's device is there, and cannot be mounted."""
    setup, device = case.setup, case[1]
    unknown = re.search(r"unknown filesystem type '(\w+)'", "\n".join(case.lines))
    if unknown:
        name, symbol = unknown[1], FILE_SYSTEMS.get(unknown[1], f"CONFIG_{unknown[1].upper()}_FS")
        means = f"the kernel does not know {name}, as which {device} is to be mounted"
        if setup.kconfig.get(symbol) == "m":
            return f"{means}: its module is not in the initramfs", _add_drivers(case, name)
        return f"{means}: {setup.state([symbol])}", setup.enable([symbol])
    if case.has(r"BTRFS error \(device \w+\): devid \d+ uuid \S+ is missing"):
        then = "in dracut's shell, `exit` tries again; where the rest has all of it, rootflags=degraded does without"
        return f"the btrfs of {device} lies on several disks, and one of them is missing, or came too late", then
    return (
        f"{device} is there, and its file system cannot be mounted: it is damaged, or it is no file system",
        f"initramfs:emergency has e2fsck: in dracut's shell, `e2fsck -y {device}`, with -b 32768 where the superblock"
        " is gone, then `exit`",
    )


def no_device_mapper(case: Case) -> Account:
    setup, symbol = case.setup, "CONFIG_BLK_DEV_DM"
    if setup.kconfig.get(symbol) != "m":
        lacking = setup.missing(symbol)
        means = f"the kernel has no device mapper{': ' if lacking else ''}{setup.state(lacking)}"
        return means, setup.enable([symbol])
    return (
        "the device mapper's driver, dm_mod, is not loaded: it is not in the initramfs, or held back"
        " (rd.driver.blacklist=)",
        f"in dracut's shell, `modprobe dm_mod` loads it if it is there; else write {_add_drivers(case, 'dm_mod')}",
    )


def no_key(case: Case) -> Account | None:
    if case.has("Switching root"):
        return None  # a later try was right
    return (
        "no key of the encrypted disk fits: the passphrase is wrong, or the key file is another disk's",
        "in dracut's shell, `cryptsetup open DEVICE NAME` asks again and `exit` goes on; rd.luks.key= names a key file",
    )


def gave_up_itself(case: Case) -> Account:
    """What a hook, or /init, died of with words of its own."""
    if "root= argument" in case[1]:
        return "the kernel's command line has no root=", "name the root, such as root=LABEL=rootfs"
    if handled := re.search(r"handle 'root=(.*)'", case[1]):
        then = "write LABEL=, UUID=, PARTUUID= or /dev/NAME, or add the module for it (dmsquash-live for live:...)"
        return f"no module of this initramfs knows what root={handled[1]} is", then
    return f"a hook gave up: {case[1]}{_last_hook(case)}", "mend what it asks for; rd.break=STAGE gives a shell before"


def init_ended(case: Case) -> Account:
    then = "let the hook `return` instead; rd.break=STAGE gives a shell before, to remove it and to go on"
    return f"/init ended by itself: a hook says `exit`, or has a mistake that ends a shell{_last_hook(case)}", then


def gave_up(case: Case) -> Account:
    if lacking := re.search(r"A disk of the btrfs on (\S+) is missing", "\n".join(case.lines)):
        return (
            f"the btrfs on {lacking[1]} lies on several disks, of which one did not come",
            "rootflags=degraded on the kernel's command line does without, if the others have all of it",
        )
    waited = [row[1] for line in case.lines if (row := re.match(r"dracut: waiting for (.*): \d+ s, try", line))]
    return (
        f"dracut waited for {waited[-1] if waited else 'the root'}, and gave up",
        "in dracut's shell, make it come, or remove the hook below /var/lib/dracut/hooks/initqueue/finished that waits,"
        " and `exit` goes on",
    )


def still_waiting(case: Case) -> Account | None:
    if case.has("Switching root|Mounted root filesystem"):
        return None
    means = f"the boot was still waiting for {case[1]} when the log ended"
    return means, "it gives up and says more after as many tries as rd.retry= says, two for a second"


def shell(case: Case) -> Account | None:
    if case.has(r"Warning: Break before"):
        return None  # it was asked for
    return "the initramfs could not start the system", "the lines before say why"


def _add_drivers(case: Case, name: str) -> str:
    return f'add_drivers+=" {name} " in a file of board/{case.setup.board}/dracut.conf.d/'


def _last_hook(case: Case) -> str:
    found = [row[1] for line in case.lines[: case.index] if (row := _HOOK.match(line))]
    return f"; the last one that spoke is {found[-1]}" if found else ""
