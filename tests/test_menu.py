from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import menu
from kiln.image.menu import Entry, Menu
from kiln.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
COMMON = (ROOT / "board/common/extlinux.conf").read_text()
ENTRY = "LABEL one\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n"


def read(
    template: str = COMMON,
    *,
    cmdline: str = "console=ttyS0 root=LABEL=x",
    board: str = "pot",
    emergency: bool = False,
) -> Menu:
    return menu.read(template, board=board, cmdline=cmdline, where="extlinux.conf", emergency=emergency)


def test_the_common_menu_has_three_entries_and_a_short_timeout() -> None:
    found = read()
    assert [(entry.label, entry.cmdline) for entry in found.entries] == [
        ("normal", "console=ttyS0 root=LABEL=x quiet"),
        ("debug", "console=ttyS0 root=LABEL=x debug ignore_loglevel"),
        ("rescue", "console=ttyS0 root=LABEL=x kiln.rescue"),
    ]
    assert all(entry.title != entry.label for entry in found.entries)
    assert (found.title, found.default, found.timeout, found.serial) == ("pot", "normal", 1, (0, 115200))


def test_what_only_syslinux_knows_stays_in_its_text() -> None:
    text = "UI vesamenu.c32\nMENU BACKGROUND pot.png\n# a note\n" + ENTRY + "  MENU HELP\n"
    assert read(text, cmdline="quiet").syslinux("/bzImage") == (
        "UI vesamenu.c32\nMENU BACKGROUND pot.png\n# a note\nLABEL one\nLINUX /bzImage\nAPPEND quiet\n  MENU HELP\n"
    )


def test_an_initramfs_is_named_below_each_kernel() -> None:
    lines = [line.strip() for line in read().syslinux("/boot/linux", "/boot/initramfs").splitlines()]
    places = [number for number, line in enumerate(lines) if line == "LINUX /boot/linux"]
    assert len(places) == 3
    assert all(lines[place + 1] == "INITRD /boot/initramfs" for place in places)
    assert not [line for line in read().syslinux("/boot/linux").splitlines() if line.strip().startswith("INITRD")]


def test_words_are_understood_as_syslinux_does() -> None:
    text = (
        "default two\ntimeout 25\nserial 1\n"
        + ENTRY
        + ("label two\n\tmenu   label ^Two words\n\tkernel @KERNEL@\n\tappend @CMDLINE@ a=b\n")
    )
    found = read(text, cmdline="x")
    assert found.entries[1] == Entry(label="two", title="Two words", cmdline="x a=b")
    assert (found.default, found.timeout, found.serial) == ("two", 3, (1, 9600))
    assert found.entries[0].title == "one"
    assert "\tkernel /k\n" in found.syslinux("/k")


@pytest.mark.parametrize("text, default", [("", "one"), ("MENU DEFAULT\n", "two"), ("MENU DEFAULT\n", "one")])
def test_the_default_is_named_or_marked_or_the_first(text: str, default: str) -> None:
    first = "DEFAULT one\n" if text and default == "one" else ""
    found = read(first + ENTRY + ENTRY.replace("one", "two") + text)
    assert (found.default, found.timeout, found.serial) == (default, 0, None)


@pytest.mark.parametrize(
    "text, where, problem",
    [
        ("DEFAULT one\nAPPEND @CMDLINE@\n", "extlinux.conf", "no entry"),
        (ENTRY.replace("@CMDLINE@", "quiet"), "extlinux.conf", "no @CMDLINE@"),
        ("\n" + ENTRY + ENTRY.replace("one", "ONE"), "extlinux.conf:5", "line 2 has the label ONE"),
        (ENTRY + "LABEL two\nAPPEND x\n", "extlinux.conf:4", "two has no LINUX"),
        (ENTRY + "LABEL two\nLINUX @KERNEL@\n", "extlinux.conf:4", "two has no APPEND"),
        (ENTRY + "LABEL\n", "extlinux.conf:4", "'' is no label"),
        (ENTRY + "LABEL a/b\n", "extlinux.conf:4", "'a/b' is no label"),
        ("\nDEFAULT three\n" + ENTRY, "extlinux.conf:2", "three is no label of an entry"),
        ("TIMEOUT soon\n" + ENTRY, "extlinux.conf:1", "whole numbers"),
        (ENTRY.replace("@KERNEL@", "/bzImage"), "extlinux.conf:2", "the kernel is '/bzImage'"),
        (ENTRY + "INITRD /initrd\n", "extlinux.conf:4", "INITRD comes by itself"),
        (ENTRY + "LABEL two\nAPPEND " + "x" * 2048, "extlinux.conf:5", "2048 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_to_all_is_refused_with_its_line(text: str, where: str, problem: str) -> None:
    with pytest.raises(KilnError, match=problem) as error:
        read(text)
    assert error.value.where == where


def test_grub_has_the_same_menu() -> None:
    text = read(cmdline="console=ttyS0").grub("/boot/bzImage", "/boot/initrd")
    assert text.splitlines()[:5] == [
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
        "set timeout=1",
        "set default=normal",
    ]
    assert (
        "menuentry 'Linux' --id normal {\n\tlinux /boot/bzImage console=ttyS0 quiet\n\tinitrd /boot/initrd\n}\n" in text
    )
    assert read(ENTRY).grub("/boot/bzImage").startswith("set timeout=-1\nset default=one\nmenuentry")


def test_grub_gets_its_own_characters_quoted() -> None:
    words = """a;b $x dyndbg="file a.c +p; func b" {} <c> #"""
    text = read(ENTRY + "MENU LABEL it's $5\n", cmdline=words).grub("/boot/k")
    assert "menuentry 'it'\\''s $5' --id one {" in text
    assert "\tlinux /boot/k 'a;b' '$x' 'dyndbg=file a.c +p; func b' '{}' '<c>' '#'\n" in text
    for word in ("it's", "a\\b"):
        with pytest.raises(KilnError, match="cannot hand"):
            read(ENTRY, cmdline=word).grub("/boot/k")


EMERGENCY = "LABEL mend\nAPPEND @CMDLINE@ rd.break\nINITRD @EMERGENCY@\nLINUX @KERNEL@\n"


def test_the_entry_for_an_emergency_is_for_media_that_have_its_initramfs() -> None:
    with_it = read(EMERGENCY + ENTRY, emergency=True, cmdline="quiet")
    places = ("/k", "/usual", "/mend")
    assert with_it.syslinux(*places) == (
        "LABEL mend\nAPPEND quiet rd.break\nINITRD /mend\nLINUX /k\nLABEL one\nLINUX /k\nINITRD /usual\nAPPEND quiet\n"
    )
    grub = with_it.grub(*places)
    assert grub.index("rd.break") < grub.index("initrd /mend") < grub.index("--id one") < grub.index("initrd /usual")
    files = with_it.systemd_boot(*places)
    assert b"initrd /mend" in files["loader/entries/01-mend.conf"]
    assert b"initrd /usual" in files["loader/entries/02-one.conf"]
    assert read(EMERGENCY + ENTRY, cmdline="quiet") == read(ENTRY, cmdline="quiet")
    assert read(ENTRY + EMERGENCY, cmdline="quiet") == read(ENTRY, cmdline="quiet")
    assert not [entry for entry in read().entries if entry.emergency]
    assert [entry.label for entry in read(COMMON, emergency=True, cmdline="quiet").entries if entry.emergency] == [
        "emergency"
    ]
    with pytest.raises(KilnError, match="has no entry"):
        read("# @CMDLINE@\n" + EMERGENCY, cmdline="quiet")


@pytest.mark.sandbox
def test_grub_itself_can_read_it(image_sandbox: Sandbox) -> None:
    text = read(COMMON + "MENU HELP it's; { \n", cmdline='a;b "c d" $x `y` && |').grub("/boot/k", "/boot/i")
    image_sandbox.run(["grub-script-check"], input=text.encode())


def test_systemd_boot_has_the_same_menu_in_the_same_order() -> None:
    files = read(cmdline="console=ttyS0").systemd_boot("/bzImage", "/initramfs")
    assert sorted(files) == [
        "loader/entries/01-normal.conf",
        "loader/entries/02-debug.conf",
        "loader/entries/03-rescue.conf",
        "loader/loader.conf",
    ]
    assert files["loader/loader.conf"] == b"timeout 1\ndefault 01-normal.conf\n"
    assert files["loader/entries/01-normal.conf"] == (
        b"title Linux\nsort-key 01\nlinux /bzImage\ninitrd /initramfs\noptions console=ttyS0 quiet\n"
    )
    assert b"initrd" not in read().systemd_boot("/bzImage")["loader/entries/02-debug.conf"]
    assert read(ENTRY).systemd_boot("/k")["loader/loader.conf"] == b"timeout menu-force\ndefault 01-one.conf\n"
