#!/bin/sh
# Says every few seconds what the boot waits for: dracut itself waits for minutes without a word.

read -r kiln_now _ < /proc/uptime
kiln_now=${kiln_now%.*}
: "${kiln_since:=$kiln_now}" "${kiln_said:=$kiln_now}"
if [ $((kiln_now - kiln_said)) -ge 5 ]; then
    kiln_said=$kiln_now
    for kiln_hook in $(list_hooks initqueue/finished); do
        kiln_what=${kiln_hook##*/}
        kiln_what=${kiln_what%.sh}
        case $kiln_what in
            devexists-*) kiln_what=$(str_replace "${kiln_what#devexists-}" '\x2f' /) ;;
            *) kiln_what="the hook initqueue/finished/$kiln_what" ;;
        esac
        # The console has it even where the kernel is quiet.
        echo "dracut: waiting for $kiln_what: $((kiln_now - kiln_since)) s, try $main_loop of $RDRETRY" > /dev/console
    done
fi
