#!/bin/bash

check() {
    return 0
}

depends() {
    echo base
}

install() {
    inst_hook initqueue/settled 99 "$moddir/kiln-wait.sh"
}
