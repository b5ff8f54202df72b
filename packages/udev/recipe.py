from kiln import Board, Debian, Meson, Step

# The parts of systemd that are switched on where nobody says otherwise.
OFF = """
    adm-group analyze backlight binfmt compat-sysv-interfaces coredump default-mountfsd-trusted-directories
    default-network efi environment-d first-boot-full-preset firstboot fuzz-tests gshadow hibernate hostname-wordlist
    hostnamed hwdb ima initrd install-tests ipe kernel-install ldconfig link-boot-shared link-executor-shared
    link-journalctl-shared link-networkd-shared link-portabled-shared link-systemctl-shared link-timesyncd-shared
    link-udev-shared localed logind machined mountfsd networkd nsresourced nss-myhostname nss-systemd oomd portabled
    pstore quotacheck randomseed resolve rfkill smack split-bin storagetm sysext sysinstall sysusers tests timedated
    timesyncd tmpfiles tpm translations userdb utmp vconsole vcs-tag wheel-group xdg-autostart
    default-kill-user-processes
"""
NOWHERE = """
    bashcompletiondir pamconfdir rpmmacrosdir shellprofiledir sshconfdir sshdconfdir xinitrcdir zshcompletiondir
"""

udev = Meson(
    name="udev",
    version="262",
    summary="makes and names devices as the kernel finds them; of systemd, that part alone",
    source=Debian(
        "systemd_262.orig.tar.gz",
        sha256="6aa77506c0644aa67f940a48e3d3a7368601f787e4f249139516d353f107bcab",
        content="sha256:22e317d93a646fe5a8ff08df83c188cb43c8afb5323b75d4e7e76953f8f12ba6",
    ),
    license="LGPL-2.1-or-later AND GPL-2.0-or-later",
    license_files=("LICENSE.GPL2", "LICENSE.LGPL2.1"),
    libs=("kmod", "libucontext", "util-linux"),
    shared=True,
    settings={
        "libc": "musl",
        "auto_features": "disabled",
        "blkid": "enabled",
        "kmod": "enabled",
        "mode": "release",
        "b_ndebug": "true",
        **dict.fromkeys(OFF.split(), False),
        **dict.fromkeys(NOWHERE.split(), "no"),
    },
)
TAGS = ("udev", "libudev")


@udev.build
def build(step: Step, board: Board) -> None:
    # Building all of systemd would take many times as long.
    wanted = f"meson introspect --install-plan | python3 {step.input('files/targets.py')} {' '.join(TAGS)} > targets"
    step.run("sh", "-c", wanted)
    step.run("sh", "-c", f"xargs python3 {step.script('ninja.py')} src/libudev/libudev.pc < targets")


@udev.install
def install(step: Step, board: Board) -> None:
    step.run("meson", "install", "--no-rebuild", f"--tags={','.join(TAGS)}", f"--destdir={step.dest}")
    # Meson knows these only together with the headers of all of systemd.
    step.install("src/libudev/libudev.pc", "usr/lib/pkgconfig/libudev.pc")
    step.run("install", "-D", "-m644", f"{step.src}/src/libudev/libudev.h", f"{step.dest}/usr/include/libudev.h")
    # Units of systemd, and helpers for hardware that each bring a third of a MB of its library.
    step.run("sh", "-c", 'cd "$1" && rm -rf systemd/network systemd/system udev/*_id', "sh", f"{step.dest}/usr/lib")
