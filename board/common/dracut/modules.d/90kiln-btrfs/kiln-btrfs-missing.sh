#!/bin/sh

for kiln_hook in $(list_hooks initqueue/finished); do
    case $kiln_hook in
        */50-all-disks-of-the-root.sh)
            [ ! -b "${root#block:}" ] ||
                warn "A disk of the btrfs on ${root#block:} is missing: rootflags=degraded does without, if the others have all of it"
            ;;
    esac
done
