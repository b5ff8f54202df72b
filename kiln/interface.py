"""Network interfaces whose addresses a board gives itself."""

import ipaddress
import re
from dataclasses import dataclass

from kiln.errors import KilnError

_NAME = re.compile(r"[A-Za-z][\w.-]{0,14}")


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The addresses of a network interface that the board itself gives: ``address`` is like 10.0.2.15/24."""

    name: str
    address: str
    gateway: str = ""
    dns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise KilnError(f"{self.name!r} is no name of an interface", hint="such as eth0")
        try:
            if "/" not in self.address:
                raise ValueError(f"{self.address!r} does not say how long its network part is")
            network = ipaddress.IPv4Interface(self.address).network
            if self.gateway and ipaddress.IPv4Address(self.gateway) not in network:
                raise ValueError(f"the gateway {self.gateway} is not in the network {network}")
            for server in self.dns:
                ipaddress.IPv4Address(server)
        except ValueError as error:
            raise KilnError(str(error), hint='such as address = "10.0.2.15/24", gateway = "10.0.2.2"') from error
