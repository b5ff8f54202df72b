"""The boot menu: written once in the language of syslinux, rendered for every boot loader."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiln.errors import KilnError

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# A kernel's parameter, which may hold spaces between double quotes.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_KERNEL = ("linux", "kernel")
_LONGEST_CMDLINE = 2047
# What an entry has for its initramfs where that is to repair a system.
_EMERGENCY = "@EMERGENCY@"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """``label`` is its short name, ``title`` what a person sees, ``cmdline`` the kernel's parameters.

    ``emergency`` says that its initramfs is the one that repairs a system.
    """

    label: str
    title: str
    cmdline: str
    emergency: bool = False


@dataclass(frozen=True, kw_only=True)
class Menu:
    """Entries in their order. ``default`` is the label of one, ``timeout`` is in seconds, and 0 waits for ever.

    ``serial`` is the number of a serial port and its speed in baud. ``text`` is the syslinux template, with
    ``@KERNEL@`` still in it. A loader's menu is told by absolute paths where the kernel is, and the initramfs: the
    usual ``initrd``, and that of the entry for an ``emergency``.
    """

    title: str
    entries: tuple[Entry, ...]
    default: str
    timeout: int
    serial: tuple[int, int] | None
    text: str

    def syslinux(self, kernel: str, initrd: str = "", emergency: str = "") -> str:
        """syslinux.cfg, extlinux.conf or isolinux.cfg."""
        more = rf"\n\1INITRD {initrd}" if initrd else ""
        blocks = re.split(r"(?im)^(?=\s*LABEL\s)", self.text)
        for number, block in enumerate(blocks):
            added = "" if _EMERGENCY in block else more
            blocks[number] = re.sub(r"(?m)^(\s*)(\S+\s+)@KERNEL@[ \t]*$", rf"\1\g<2>{kernel}{added}", block)
        return "".join(blocks).replace(_EMERGENCY, emergency)

    def grub(self, kernel: str, initrd: str = "", emergency: str = "") -> str:
        """grub.cfg, with its menu on the serial port as well."""
        lines = []
        if self.serial:
            lines += ["serial --unit={} --speed={}".format(*self.serial)]
            lines += ["terminal_input console serial", "terminal_output console serial"]
        lines += [f"set timeout={self.timeout or -1}", f"set default={self.default}"]
        for entry in self.entries:
            lines += [f"menuentry {_quote(entry.title)} --id {entry.label} {{"]
            lines += [f"\tlinux {kernel} {' '.join(map(_grub_word, _WORD.findall(entry.cmdline)))}"]
            chosen = emergency if entry.emergency else initrd
            lines += [f"\tinitrd {chosen}"] if chosen else []
            lines += ["}"]
        return "".join(f"{line}\n" for line in lines)

    def systemd_boot(self, kernel: str, initrd: str = "", emergency: str = "") -> dict[str, bytes]:
        """The files of systemd-boot's menu, by their path on the EFI system partition."""
        files = {}
        for number, entry in enumerate(self.entries, 1):
            lines = [f"title {entry.title}", f"sort-key {number:02}", f"linux {kernel}"]
            chosen = emergency if entry.emergency else initrd
            lines += [f"initrd {chosen}"] if chosen else []
            lines += [f"options {entry.cmdline}"]
            files[_conf(number, entry)] = "".join(f"{line}\n" for line in lines).encode()
        default = next(_conf(*item) for item in enumerate(self.entries, 1) if item[1].label == self.default)
        text = f"timeout {self.timeout or 'menu-force'}\ndefault {default}\n"
        return {f"loader/entries/{name}": text for name, text in files.items()} | {"loader/loader.conf": text.encode()}


def read(template: str, *, board: str, cmdline: str, where: str, emergency: bool = False) -> Menu:
    """The menu that ``template`` says, with ``board`` and ``cmdline`` in place of ``@BOARD@`` and ``@CMDLINE@``.

    The entry whose initramfs is ``@EMERGENCY@`` is only for a medium that has one. ``where`` names the template's
    file. A directive that only syslinux knows stays in its text. Raises KilnError, with the line, for what no other
    boot loader could be told.
    """
    if "@CMDLINE@" not in template:
        raise KilnError("the boot menu has no @CMDLINE@, so nothing could find its root", where=where)
    lines = template.replace("@BOARD@", board).replace("@CMDLINE@", cmdline).splitlines()
    reader = _Reader(where)
    for number, line in enumerate(lines, 1):
        reader.line(number, line)
    return reader.menu(lines, emergency=emergency)


class _Reader:
    """Takes the lines of a menu, one after the other."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._number = 0
        self._globals: dict[str, tuple[int, str]] = {}
        self._entries: list[tuple[int, str, dict[str, str]]] = []

    def line(self, number: int, line: str) -> None:
        self._number = number
        key, value = _directive(line)
        if key == "label":
            self._begin(value)
        elif self._entries:
            self._take(key, value)
        elif key:
            self._globals[key] = number, value

    def menu(self, lines: list[str], *, emergency: bool) -> Menu:
        if not emergency:
            lines = self._without_emergency(lines)
        entries = tuple(self._finished())
        if not entries:
            raise KilnError("the boot menu has no entry", where=self._where, hint="begin one with: LABEL normal")
        default = self._default(entries)
        tenths, port = self._whole_numbers("timeout"), self._whole_numbers("serial")
        return Menu(
            title=self._globals.get("menu title", (0, ""))[1],
            entries=entries,
            default=default,
            timeout=-(-tenths[0] // 10) if tenths else 0,
            serial=(port[0], port[1] if len(port) > 1 else 9600) if port else None,
            text="".join(f"{line}\n" for line in lines),
        )

    def _without_emergency(self, lines: list[str]) -> list[str]:
        """The lines without such an entry, which this medium could not start."""
        starts = [number for number, _, _ in self._entries] + [len(lines) + 1]
        gone = [place for place, (_, _, fields) in enumerate(self._entries) if "initrd" in fields]
        left = {number for place in gone for number in range(starts[place], starts[place + 1])}
        self._entries = [entry for place, entry in enumerate(self._entries) if place not in gone]
        return [line for number, line in enumerate(lines, 1) if number not in left]

    def _begin(self, label: str) -> None:
        if not _LABEL.fullmatch(label):
            hint = "up to 32 letters, digits and _.-, since it names a file in other boot loaders' menus"
            raise self._error(f"{label!r} is no label", hint)
        for number, other, _ in self._entries:
            if other.lower() == label.lower():
                raise self._error(f"line {number} has the label {label} already")
        self._entries.append((self._number, label, {}))

    def _take(self, key: str, value: str) -> None:
        fields = self._entries[-1][2]
        if key in _KERNEL and value != "@KERNEL@":
            hint = f"write {key.upper()} @KERNEL@, since each medium has its kernel elsewhere"
            raise self._error(f"the kernel is {value!r}", hint)
        if key == "initrd" and value != _EMERGENCY:
            hint = f"remove this line, or let it be {_EMERGENCY}, the initramfs that repairs a system"
            raise self._error("INITRD comes by itself where a medium has an initramfs", hint)
        if key == "append" and len(value) > _LONGEST_CMDLINE:
            raise self._error(f"{len(value)} characters are more than a kernel takes ({_LONGEST_CMDLINE})")
        fields["linux" if key in _KERNEL else key] = value

    def _finished(self) -> Iterator[Entry]:
        for number, label, fields in self._entries:
            self._number = number
            for key in ("linux", "append"):
                if key not in fields:
                    raise self._error(f"the entry {label} has no {key.upper()}", "LINUX @KERNEL@ and APPEND @CMDLINE@")
            # syslinux marks the key for a title's letter so.
            title = fields.get("menu label", label).replace("^", "")
            yield Entry(label=label, title=title, cmdline=fields["append"], emergency="initrd" in fields)

    def _default(self, entries: tuple[Entry, ...]) -> str:
        marked = [label for _, label, fields in self._entries if "menu default" in fields]
        self._number, chosen = self._globals.get("default", (0, (*marked, entries[0].label)[0]))
        if chosen not in [entry.label for entry in entries]:
            raise self._error(f"DEFAULT {chosen} is no label of an entry")
        return chosen

    def _whole_numbers(self, key: str) -> list[int]:
        self._number, value = self._globals.get(key, (0, ""))
        words = value.split()[:2]
        if not all(map(str.isdecimal, words)):
            raise self._error(f"{key.upper()} takes whole numbers, not {value!r}")
        return [int(word) for word in words]

    def _error(self, message: str, hint: str | None = None) -> KilnError:
        return KilnError(message, where=f"{self._where}:{self._number}", hint=hint)


def _directive(line: str) -> tuple[str, str]:
    """The keyword of a line in lower case, two words after MENU, and the rest; both empty for a comment."""
    match = re.match(r"\s*(menu\s+\w+|[^\s#]+)\s*(.*?)\s*$", line, re.IGNORECASE)
    return (" ".join(match[1].lower().split()), match[2]) if match else ("", "")


def _conf(number: int, entry: Entry) -> str:
    return f"{number:02}-{entry.label.lower()}.conf"


def _grub_word(word: str) -> str:
    """A word as GRUB's shell wants it; GRUB puts the quotes back that a space needs."""
    if "'" in word or "\\" in word:
        raise KilnError(f"GRUB cannot hand {word} to a kernel", where="cmdline", hint="do without ' and \\")
    word = word.replace('"', "")
    return word if re.fullmatch(r"[\w=.,:/@%+-]+", word) else _quote(word)


def _quote(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"
