#!/bin/bash
# A btrfs on several disks is mounted when all of them are there: where nobody has systemd, dracut takes the first.

check() {
    return 255
}

depends() {
    echo btrfs
}

install() {
    inst_hook initqueue/finished 50 "$moddir/all-disks-of-the-root.sh"
    inst_hook emergency 50 "$moddir/kiln-btrfs-missing.sh"
}
