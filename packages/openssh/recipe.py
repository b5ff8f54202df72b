from kiln import Autotools, Board, Debian, Git, Option, Step, User

openssh = Autotools(
    name="openssh",
    version="10.0p1",
    summary="the ssh server and its clients",
    source=Git(
        "https://github.com/openssh/openssh-portable",
        tag="V_10_0_P2",
        commit="2593769fb291fe6c542173927698c69e9f9a08b9",
        content="sha256:f9cfb468fc266478a919cfa71c1a47480295f7e09b8c630ac4975a9d3523aad8",
        mirrors=[
            Debian(
                "openssh_10.0p1.orig.tar.gz",
                sha256="021a2e709a0edf4250b1256bd5a9e500411a90dddabea830ed59cef90eb9d85c",
            )
        ],
    ),
    license="BSD-2-Clause AND BSD-3-Clause AND ISC AND MIT AND SSH-OpenSSH AND ssh-keyscan",
    license_files=("LICENCE",),
    libs=("zlib",),
    options={
        "crypto": Option(
            default="openssl",
            choices=("openssl", "internal"),
            libs={"openssl": ("openssl",)},
            doc="where ciphers come from: with its own alone, ssh is far smaller, and has no RSA, ECDSA and AES-GCM",
        )
    },
    users=(User(name="sshd", uid=22, gid=22, home="/var/empty", shell="/bin/false"),),
    args=(
        "--sysconfdir=/etc/ssh", "--with-pid-dir=/run", "--with-default-path=/usr/sbin:/usr/bin:/sbin:/bin",
        "--with-sandbox=seccomp_filter", "--without-pie", "--disable-pkcs11", "--disable-libutil",
        "--disable-lastlog", "--disable-utmp", "--disable-utmpx", "--disable-wtmp", "--disable-wtmpx",
    ),
)  # fmt: skip

PROGRAMS = {
    "usr/bin": ("scp", "sftp", "ssh", "ssh-add", "ssh-agent", "ssh-keygen", "ssh-keyscan"),
    "usr/libexec": ("sftp-server", "sshd-auth", "sshd-session"),
    "usr/sbin": ("sshd",),
}

SSHD_CONFIG = """\
# Keys alone open the door: nobody logs in with a password.
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password

# From ten people on that are not logged in yet, sshd would turn away one in three; slow machines have that many soon.
MaxStartups 50:30:100

UseDNS no
Subsystem sftp /usr/libexec/sftp-server

# What is missing of these is made when sshd starts.
"""


@openssh.configure
def configure(step: Step, board: Board) -> None:
    openssh.style_configure(step, board, *(() if step.option("crypto") == "openssl" else ("--without-openssl",)))


@openssh.build
def build(step: Step, board: Board) -> None:
    step.make(*(name for names in PROGRAMS.values() for name in names))


@openssh.install
def install(step: Step, board: Board) -> None:
    for folder, names in PROGRAMS.items():
        for name in names:
            step.install(name, f"{folder}/{name}", mode=0o755)
    kinds = ("ed25519", "ecdsa", "rsa") if step.option("crypto") == "openssl" else ("ed25519",)
    keys = "".join(f"HostKey /etc/ssh/ssh_host_{kind}_key\n" for kind in kinds)
    step.write("etc/ssh/sshd_config", SSHD_CONFIG + keys)
    step.copy("files/sshd", "usr/lib/kiln/sshd", mode=0o755)
    step.write("etc/inittab.d/50-sshd", "::respawn:/usr/lib/kiln/sshd\n")
    step.folder("var/empty")
