"""Phases of boots, from logs of real ones and from what is left of them when a boot stops."""

import re
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.report.phases import Course, course
from kiln.vm.diagnose import read

LOGS = Path(__file__).parent / "fixtures/boot"


def text(road: str) -> str:
    return (LOGS / f"{road}.log").read_text()


def at(road: str, sign: str) -> float:
    """When a line came."""
    found = re.search(rf"^\[ *(\d+\.\d+)\] .*{re.escape(sign)}", text(road), re.M)
    assert found
    return float(found[1])


def names(found: Course) -> list[str]:
    return [phase.name for phase in found.phases]


@pytest.mark.parametrize(
    ("road", "first"), [("cpio", "Run /init as init process"), ("ext4", "Run /sbin/init as init process")]
)
def test_a_kernel_that_qemu_starts_has_three_phases_that_join(road: str, first: str) -> None:
    found = course(read(text(road)))
    assert names(found) == ["firmware", "kernel", "userspace"]
    assert [phase.start for phase in found.phases] == [0.0, at(road, "Linux version"), at(road, first)]
    assert [phase.end for phase in found.phases[:-1]] == [phase.start for phase in found.phases[1:]]
    assert found.ready and not found.quiet
    # The power goes off later, which is no part of the boot.
    assert found.end == at(road, " ok") < at(road, "reboot: Power down")


@pytest.mark.parametrize(
    ("road", "over"), [("label", "initramfs: starts /sbin/init"), ("dracut", "dracut: Switching root")]
)
def test_an_initramfs_that_hands_over_is_a_phase_of_its_own(road: str, over: str) -> None:
    found = course(read(text(road)))
    assert names(found) == ["firmware", "kernel", "initramfs", "userspace"]
    assert found.phases[2].start == at(road, "Run /init as init process")
    assert found.phases[2].end == at(road, over)


@pytest.mark.parametrize(
    ("road", "banner"), [("disk", "SYSLINUX 6.04"), ("grub", "GNU GRUB"), ("uefi", "BdsDxe: starting")]
)
def test_where_the_kernel_is_quiet_its_start_follows_from_the_uptime(road: str, banner: str) -> None:
    found = course(read(text(road)))
    uptime = re.search(r"info uptime=(\S+)", text(road))
    assert uptime
    assert names(found) == ["firmware", "loader", "kernel"]
    assert found.phases[1].start == at(road, banner)
    assert found.phases[2].start == pytest.approx(at(road, "info uptime=") - float(uptime[1]))
    assert found.ready and found.quiet
    assert found.seconds("userspace") is None


def test_a_clock_that_runs_too_fast_is_not_believed() -> None:
    found = course(read(re.sub(r"uptime=\S+", "uptime=600.00", text("disk"))))
    assert names(found) == ["firmware", "loader"]
    assert found.ready and found.quiet
    # Where the kernel tells of itself, the uptime does not count.
    assert (
        course(read(re.sub(r"uptime=\S+", "uptime=600.00", text("label")))).phases == course(read(text("label"))).phases
    )


def until(road: str, sign: str) -> str:
    return text(road).partition(sign)[0]


@pytest.mark.parametrize(
    ("road", "stop", "phases"),
    [
        ("grub", "GNU GRUB", ["firmware"]),
        ("uefi", "KILN-CHECK", ["firmware", "loader"]),
        ("cpio", "Run /init", ["firmware", "kernel", "userspace"]),
        ("cpio", "Freeing unused", ["firmware", "kernel"]),
        ("label", "KILN-CHECK", ["firmware", "kernel", "initramfs", "userspace"]),
    ],
)
def test_a_log_that_stops_midway_has_the_phases_up_to_there(road: str, stop: str, phases: list[str]) -> None:
    kept = until(road, stop)
    found = course(read(kept))
    assert names(found) == phases
    assert not found.ready and not found.quiet
    assert found.last in kept.splitlines()[-1] or found.last in kept.splitlines()[-2]


def test_an_initramfs_that_waits_for_ever_is_where_the_boot_stopped() -> None:
    waits = "[   19.500] initramfs: waits for LABEL=rootfs since 15 s\n"
    found = course(read(until("label", "[    4.477] initramfs") + waits))
    assert names(found)[-1] == "initramfs"
    assert (found.ready, found.end, found.last) == (False, 19.5, "initramfs: waits for LABEL=rootfs since 15 s")


@pytest.mark.parametrize("end", ["kiln login: ", "kiln:~# ls"])
def test_a_login_or_a_shell_ends_a_boot_that_nobody_checks(end: str) -> None:
    dmesg = "[    0.000000] Linux version 6.1.176\n[    1.500000] Run /init as init process\n[    2.500000] eth0: up\n"
    found = course(read(f"{dmesg}{end}\n[   99.000000] reboot: Power down\n"))
    assert (found.ready, names(found), found.end) == (True, ["kernel", "userspace"], 2.5)


@pytest.mark.parametrize("end", ["kiln login: ", "kiln:~# ", "KILN-CHECK 2b79a3329b0a4fb1 FAIL no address"])
def test_a_boot_that_is_checked_is_not_over_before_the_check_says_so(end: str) -> None:
    found = course(read(f"{until('ext4', 'KILN-CHECK')}\n[    9.000] {end}\n"))
    assert (found.ready, found.quiet) == (False, False)


def test_a_kernels_own_times_do_not_hide_its_lines() -> None:
    stamped = re.sub(r"(?m)^(\[ *[\d.]+\] )(?!.*KILN)", r"\1[    0.123456][    T1] ", text("cpio"))
    assert course(read(stamped)).phases == course(read(text("cpio"))).phases


def test_a_log_of_the_kernel_alone_begins_with_it() -> None:
    dmesg = (
        "[    0.000000] Linux version 6.1.176\n[    0.900000] Unpacking initramfs...\n"
        "[    1.400000] Freeing initrd memory: 4128K\n[    1.500000] Run /init as init process\nkiln login: \n"
    )
    found = course(read(dmesg))
    assert names(found) == ["kernel", "userspace"]
    assert found.seconds("kernel") == 1.5
    assert found.unpacking == pytest.approx(0.5)


@pytest.mark.parametrize("log", ["", "Linux version 6.1.176\nkiln login: \n"])
def test_a_log_without_times_is_refused(log: str) -> None:
    with pytest.raises(KilnError, match="no times") as caught:
        course(read(log))
    assert "doit test" in str(caught.value)


def test_the_unpacking_of_the_initramfs_is_told_and_that_of_none_is_not() -> None:
    unpacked = at("cpio", "Freeing initrd memory") - at("cpio", "Unpacking initramfs")
    assert course(read(text("cpio"))).unpacking == pytest.approx(unpacked)
    assert course(read(text("ext4"))).unpacking is None


def test_gaps_are_between_lines_that_say_something_longest_first() -> None:
    log = "[    0.100] one\n[    0.200] \n[    2.100] two\n[    2.150] kiln login: \n"
    gaps = course(read(log)).gaps
    assert [(gap.before, gap.after) for gap in gaps] == [("one", "two"), ("", "one"), ("two", "kiln login:")]
    assert gaps[0].seconds == pytest.approx(2.0)


def test_initcalls_are_told_by_name_slowest_first() -> None:
    calls = (
        "[    1.000] initcall ata_init+0x0/0x31 returned 0 after 1200 usecs\n"
        "[    1.100] initcall 0xffffffff81e4d977 returned -19 after 90000 usecs\n"
        "[    1.200] initcall virtio_init+0x0/0x10 [virtio] returned 0 after 7 usecs\n"
    )
    found = course(read(calls), {"0xffffffff81e4d977": "pcibios_init"}).initcalls
    assert [(part.name, part.seconds) for part in found] == [
        ("pcibios_init", 0.09), ("ata_init", 0.0012), ("virtio_init", 7e-6),
    ]  # fmt: skip
