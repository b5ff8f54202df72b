from kiln import Board, Debian, Package, Step

openssl = Package(
    name="openssl",
    version="3.5.7",
    summary="cryptography, as a library",
    source=Debian(
        "openssl_3.5.7.orig.tar.gz",
        sha256="a8c0d28a529ca480f9f36cf5792e2cd21984552a3c8e4aa11a24aa31aeac98e8",
        content="sha256:f6661fb2c19e1e0bb9e7c38fde2a02c47d3c5cf517174dce94e44090d481f761",
    ),
    license="Apache-2.0",
    license_files=("LICENSE.txt",),
)

# libcrypto alone, with what ssh needs of it.
WITHOUT = """
    shared tests apps docs module dso engine legacy async afalgeng capieng padlockeng comp ui-console
    err autoerrinit filenames sock tls dtls ssl quic srp srtp ct cmp cms ts ocsp http psk
    gost sm2 sm3 sm4 camellia aria seed idea cast bf rc2 rc4 rc5 mdc2 md4 rmd160 whirlpool blake2 siphash scrypt
    ec2m dsa ml-kem ml-dsa slh-dsa argon2
"""


@openssl.configure
def configure(step: Step, board: Board) -> None:
    paths = ("--prefix=/usr", "--libdir=lib", "--openssldir=/etc/ssl", f"--cross-compile-prefix={board.triple}-")
    without = [f"no-{name}" for name in WITHOUT.split()]
    step.run(
        f"{step.src}/Configure", board.arch.openssl, *paths, *without, "-Os", "-ffunction-sections", "-fdata-sections"
    )


@openssl.build
def build(step: Step, board: Board) -> None:
    step.make("build_generated")
    step.make("libcrypto.a")


@openssl.install
def install(step: Step, board: Board) -> None:
    # `make install_dev` would build libssl as well.
    step.install("libcrypto.a", "usr/lib/libcrypto.a")
    headers = f"{step.dest}/usr/include/openssl"
    step.run("mkdir", "-p", headers)
    step.run("sh", "-c", 'cp "$1"/include/openssl/*.h include/openssl/*.h "$2"', "sh", step.src, headers)
