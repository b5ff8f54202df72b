from kiln import Board, Package, Step

dhclient = Package(
    name="dhclient",
    version="1",
    summary="BusyBox's DHCP client, under the name and with the words that dracut knows",
    license="MIT",
    libc=False,
    runtime=("busybox",),
    dracut=("iscsi", "nbd", "network", "network-legacy", "nfs"),
)


@dhclient.install
def install(step: Step, board: Board) -> None:
    step.copy("files/dhclient", "usr/sbin/dhclient", mode=0o755)
