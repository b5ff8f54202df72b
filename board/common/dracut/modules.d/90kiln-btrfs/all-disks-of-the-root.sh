#!/bin/sh
# What returns 0 here is not asked again.

case "$root ,$(getarg rootflags=)," in
    *,degraded,*) return 0 ;;
    block:*) kiln_root=${root#block:} ;;
    *) return 0 ;;
esac
[ -b "$kiln_root" ] || return 1
kiln_known=$(udevadm info --query=property --name="$kiln_root")
# The kernel makes the device before udev has looked what is on it.
strstr "$kiln_known" USEC_INITIALIZED= || return 1
strstr "$kiln_known" ID_FS_TYPE=btrfs || return 0
btrfs device ready "$kiln_root" > /dev/null 2>&1
