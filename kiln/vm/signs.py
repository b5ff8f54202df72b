"""The signs of failure in a boot's log: what each means for the board that was booted, and what to do next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kiln.vm import causes, dracut
from kiln.vm.causes import Account, Case

# A ``failure`` is the end of a boot or of a program, a ``flaw`` is not as it should be, a ``note`` is harmless.
Level = Literal["failure", "flaw", "note"]


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A ``pattern`` of a line, what it ``means`` and what to do ``then``, where ``{1}`` is the pattern's group.

    ``account`` overrules these; it is None where this line is no sign after all. Of all signs that ``ends`` a boot, the
    first of the table is the cause.
    """

    pattern: str
    level: Level = "failure"
    ends: bool = False
    means: str = ""
    then: str = ""
    account: Callable[[Case], Account | None] | None = None

    def read(self, case: Case) -> Account | None:
        if self.account:
            return self.account(case)
        groups = ("", *(group or "" for group in case.match.groups()))
        means, then = (text.format(*groups, setup=case.setup, memory=case.memory) for text in (self.means, self.then))
        return means, then


# fmt: off
SIGNS: tuple[Sign, ...] = (
    # QEMU itself.
    Sign(pattern=r"Could not set up host forwarding rule '([^']*)'", ends=True,
         means="the port of {1} is taken on this machine, perhaps by another machine that still runs",
         then="end that, or choose another port: forward in [qemu] of {setup.file}"),
    Sign(pattern=r"^qemu-system-\S+: .*(?:Failed to get .*lock|Is another process using)", ends=True,
         means="another QEMU holds the image", then="end the other one"),
    Sign(pattern=r"^qemu-system-\S+: .*(?:[Cc]annot allocate memory|cannot set up guest memory)", ends=True,
         means="this machine has not the {memory} that the virtual one asks for",
         then="lower memory in [qemu] of {setup.file}"),
    Sign(pattern=r"^qemu-system-\S+: .*(?:unable to find CPU model|CPU model .* not (?:found|supported))", ends=True,
         means="QEMU does not know the processor", then="correct cpu in [qemu] of {setup.file}"),
    Sign(pattern=r"^qemu-system-\S+: .*(?:Could not access KVM|failed to initialize kvm)", ends=True,
         means="KVM does not work here", then="set KILN_ACCEL=tcg"),
    Sign(pattern=r"^qemu-system-\S+: (?!warning:|terminating on signal)", ends=True,
         means="QEMU refused its command line", then="`doit qemu` prints the command line"),
    # The way to the first program: each of these has the later ones as its consequence.
    Sign(pattern=r"Could not find kernel image|Failed to load (?:ldlinux|libcom)|No DEFAULT or UI", ends=True,
         means="the boot loader did not find what it loads",
         then="check board/{setup.board}/extlinux.conf; `doit clean disk image` makes the disk anew"),
    Sign(pattern=r"[Ii]nitramfs unpacking failed: (.*)|rootfs image is not initramfs \((.*)\)", ends=True,
         account=causes.unpacking),
    Sign(pattern=r"System is deadlocked on memory|Out of memory and no killable", ends=True,
         means="{memory} of memory were not enough", then="raise memory in [qemu] of {setup.file}"),
    Sign(pattern=r"\bBUG: |Internal error: Oops|\bOops\b|Unable to handle kernel|general protection fault, "
         r"|kernel BUG at", ends=True, account=causes.oops),
    # What an initramfs of dracut says.
    Sign(pattern=r"Failure to communicate with kernel device-mapper driver", ends=True,
         account=dracut.no_device_mapper),
    Sign(pattern=r"No key available with this passphrase", ends=True, account=dracut.no_key),
    Sign(pattern=r"dracut: FATAL: (.*?)\"?$", ends=True, account=dracut.gave_up_itself),
    Sign(pattern=r"dracut Warning: Signal caught!", ends=True, account=dracut.init_ended),
    Sign(pattern=r"fsck: error 2 .*while executing (\S+) for (\S+)", ends=True,
         means="{2} was to be checked, and the initramfs has no {1}",
         then="rd.skipfsck leaves the check out; fscks+=\" e2fsck {1} \" in a configuration of dracut brings it"),
    Sign(pattern=r"dracut Warning: Failed to mount -t \S+ -o \S+ (\S+) /sysroot", ends=True,
         account=dracut.unmountable),
    Sign(pattern=r"Warning: \"?(/dev/[^\" ]+)\"? does not exist", ends=True, account=dracut.absent),
    Sign(pattern=r"dracut Warning: Could not boot|dracut-initqueue: timeout", ends=True, account=dracut.gave_up),
    Sign(pattern=r"^dracut: waiting for (.*): \d+ s, try \d+ of \d+", ends=True, account=dracut.still_waiting),
    Sign(pattern=r"Warning: Can't mount root filesystem|Failed to mount /?sysroot", ends=True,
         means="the root was found, and nothing could mount it", then="the lines before say why"),
    Sign(pattern=r"^Cannot find init!", ends=True,
         means="the root was mounted, and has no /sbin/init: it is another file system, or not a whole one",
         then="correct root=, or name its first program with init="),
    Sign(pattern=r"Dropping to debug shell|Entering emergency mode|Boot has failed\. To debug", ends=True,
         account=dracut.shell),
    Sign(pattern=r"EXT4-fs \((\S+)\): (?:VFS: Can't find ext4|bad geometry|couldn't mount because of unsupported)",
         ends=True, means="what is on {1} is no ext4 file system that this kernel can mount",
         then="check root=, and that the image was written whole"),
    Sign(pattern=r"VFS: Cannot open root device|VFS: Unable to mount root fs", ends=True, account=causes.no_root),
    Sign(pattern=r"Waiting for root device (\S+?)\.\.\.", ends=True, account=causes.waiting),
    Sign(pattern=r"(?:Failed to execute|Requested init|Default init|Starting init:) (\S+).*\(?error -(\d+)\)?",
         ends=True, account=causes.not_run),
    Sign(pattern=r"FATAL: kernel too old", ends=True,
         means="a program of the image was built with glibc for a newer kernel than this one",
         then="choose a newer kernel (linux in [versions] of {setup.file}), or build the program with a recipe: those"
         " use musl"),
    Sign(pattern=r"No working init found", ends=True, account=causes.no_init),
    Sign(pattern=r"^initramfs: cannot start the system: (.*)", ends=True,
         means="the initramfs found no system that it could start: {1}",
         then="the lines before name the devices that it saw; rd.shell on the command line gives a shell there"),
    Sign(pattern=r"Attempted to kill init! exitcode=(0x[0-9a-f]+)", ends=True, account=causes.ended),
    Sign(pattern=r"Kernel panic - not syncing: (.*)", ends=True, means="the kernel gave up: {1}",
         then="the lines before say why"),
    Sign(pattern=r"not syncing|Call Trace", ends=True, means="the kernel printed a trace",
         then="the lines before say why"),
    Sign(pattern=r"Starting kernel|Booting the kernel|Uncompressing Linux|EFI stub: |bootconsole \[\w+\] disabled",
         ends=True, account=causes.silent_after),
    Sign(pattern=r"^Run (\S+) as init process", ends=True, account=causes.silent_first),
    # Programs.
    Sign(pattern=r"/usr/lib/kiln/check: not found", means="the check that a test runs is not in the image",
         then="add the package check to packages of {setup.file}"),
    Sign(pattern=r"Out of memory: Killed process \d+ \(([^)]*)\)",
         means="{1} was ended because the {memory} of memory were used up",
         then="raise memory in [qemu] of {setup.file}"),
    Sign(pattern=r"(\S+)\[\d+\]: segfault at ([0-9a-f]+) .*? in ([^\s\[]+)", account=causes.segfault),
    Sign(pattern=r"(\S+)\[\d+\]: (?:segfault at ([0-9a-f]+)()|unhandled (?:signal 11|exception))",
         account=causes.segfault),
    Sign(pattern=r"invalid opcode|undefined instruction|Illegal instruction|unhandled signal 4 ",
         means="a program used an instruction that the processor of this machine has not",
         then="correct cpu in [qemu] of {setup.file}, or compile for an older processor"),
    Sign(pattern=r"Segmentation fault", means="a program touched memory that is not its own",
         then="run it by hand: `doit qemu BOARD={setup.board}`"),
    Sign(pattern=r"Error loading shared library ([^:]+): .*\(needed by ([^)]+)\)",
         means="{2} needs the library {1}, which is not in the image",
         then="name its package in libs of the recipe that brings {2}"),
    Sign(pattern=r"Error relocating ([^:]+): (\S+): symbol not found",
         means="{1} was linked with another version of a library: {2} is missing", then="build it anew"),
    Sign(pattern=r"can't run '([^']*)'", account=causes.missing_program),
    Sign(pattern=r"can't open (/dev/\w+): No such file",
         means="a line of /etc/inittab is for {1}, which this machine or its kernel has not",
         then="correct console in [options.init] of {setup.file}, or the fragment in etc/inittab.d"),
    Sign(pattern=r"/hooks/(\S+)/\d+-(\S+): line \d+: (\S+): not found", level="flaw",
         means="the hook {2} of the stage {1} calls {3}, which is not in the initramfs",
         then="write inst_multiple {3} into module-setup.sh of its module; a recipe must bring it"),
    Sign(pattern=r"line \d+: (\S+): not found", level="flaw", account=causes.missing_program),
    Sign(pattern=r"modprobe: (?:FATAL: )?(?:module|can't change directory to) '?([^' ]+)", level="flaw",
         means="a module was asked for ({1}) that is not in the image",
         then="build it into the kernel (=y instead of =m in a fragment of board/{setup.board}/linux)"),
    # Disks.
    Sign(pattern=r"I/O error, dev (\w+)|Buffer I/O error on dev(?:ice)? (\w+)",
         means="the disk {1}{2} cannot be read or written where it should",
         then="the image may be shorter than its partition table says; `doit verify` looks at what was built"),
    Sign(pattern=r"EXT4-fs error \(device (\w+)\)", means="the file system on {1} is damaged",
         then="`e2fsck -f` says where; was it written to by two machines, or cut off?"),
    Sign(pattern=r"[Rr]emounting filesystem read-only|Read-only file system",
         means="something writes to a file system that can only be read", then="look for the first error before it"),
    # The network.
    Sign(pattern=r"IP-Config: No network devices available", level="flaw", account=causes.no_devices),
    Sign(pattern=r"IP-Config: Device [`']([^']*)' not found", level="flaw",
         means="ip= names the network card {1}, which is not there", then="it is eth0 on QEMU's machines"),
    Sign(pattern=r"IP-Config: (?:Auto-configuration of network failed|Incomplete network configuration)", level="flaw",
         means="no DHCP server answered the kernel, or ip= lacks a field",
         then="check the network of the machine, and ip= (client::gateway:mask:name:device:off)"),
    Sign(pattern=r"udhcpc: no lease", level="flaw", means="no DHCP server answered",
         then="check the network of the machine, or set network = \"static\" in {setup.file}"),
    Sign(pattern=r"no hostkeys available", level="flaw", means="sshd has no host keys, so it does not start",
         then="they are made when sshd starts; /etc/ssh must be writable for that"),
    Sign(pattern=r"bad ownership or modes for (?:chroot )?(?:directory|file) (\S+)", level="flaw",
         means="sshd trusts no key below {1}: others than its user can write to it",
         then="own it by that user, without write permission for group and others"),
    Sign(pattern=r"User (\S+) not allowed because account is locked", level="flaw",
         means="the account {1} is locked (! in /etc/shadow), so sshd refuses keys too",
         then="give {1} a password in [users] of {setup.file}, or \"*\" in its place"),
    Sign(pattern=r"Privilege separation user (\S+) does not exist|Missing privilege separation directory: (\S+)",
         level="flaw", means="sshd lacks its own user or folder {1}{2}", then="take both from the package openssh"),
    Sign(pattern=r"Bind to port (\d+) on \S+ failed", level="flaw", means="port {1} of the guest is taken",
         then="let one program listen there"),
    # The console.
    Sign(pattern=r"can't access tty; job control turned off", level="flaw",
         means="this shell runs on /dev/console, which cannot control jobs: Ctrl-C and fg do nothing",
         then="start it with `setsid cttyhack sh`, or from a line of etc/inittab.d for a real terminal"),
    Sign(pattern=r"unable to open an initial console", level="flaw",
         means="the first program has no terminal: /dev/console is not in the root file system",
         then="the image of a board brings one; add it to a root of your own (char device 5:1)"),
    Sign(pattern=r"^Run (\S+) as init process", level="flaw", account=causes.init_ignored),
    Sign(pattern=r"rcu.*detected stalls|soft lockup", level="flaw", means="the machine stood still for seconds",
         then="it is busy: emulation on a loaded machine does this; try again"),
    # What only looks bad.
    Sign(pattern=r"dracut Warning: Break before (\S+)", level="note",
         means="rd.break= asked for a shell before the stage {1}; `exit` goes on"),
    Sign(pattern=r"(\S+) \(\d+\) used greatest stack depth: (\d+) bytes left", level="note",
         means="harmless: the kernel tells how deep its stack once was"),
    Sign(pattern=r"uninitialized urandom read", level="note", account=causes.urandom),
    Sign(pattern=r"Unknown kernel command line parameters \"([^\"]*)\"", level="note",
         means="the kernel leaves these to the first program: {1}"),
)
# fmt: on
