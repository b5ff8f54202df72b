from kiln import Autotools, Debian

lvm2 = Autotools(
    name="lvm2",
    version="2.03.31",
    summary="logical volumes, and the device mapper under them",
    source=Debian(
        "lvm2_2.03.31.orig.tar.xz",
        sha256="5541d15f739bc62263b551b1d8091ea8fc889a31ed20cdc58ff9f7192d8ecd4a",
        content="sha256:322858a501a4a3cdcef7733af45a5dff4d384d505d7d83b4fdc4c803f4fcf25e",
    ),
    license="GPL-2.0-only AND LGPL-2.1-only AND BSD-2-Clause",
    license_files=("COPYING", "COPYING.BSD", "COPYING.LIB"),
    libs=("libaio", "udev", "util-linux"),
    dracut=("dm", "dmsetup", "dmsquash-live", "lvm", "lvmmerge"),
    shared=True,
    copied=True,
    args=(
        *(f"--disable-{name}" for name in ("blkdeactivate", "fsadm", "nls", "readline", "selinux", "lvmimportvdo")),
        *(f"--enable-{name}" for name in ("pkgconfig", "udev_rules", "udev_sync", "write_install")),
        *(f"--with-{name}=none" for name in ("cache", "integrity", "thin", "vdo", "writecache")),
        "--with-symvers=no",
        "--without-libnvme",
        "--without-systemd",
        "--with-default-locking-dir=/run/lock/lvm",
        # It would run a program of the board to find out.
        "ac_cv_func_malloc_0_nonnull=yes",
        "ac_cv_func_realloc_0_nonnull=yes",
    ),
)
