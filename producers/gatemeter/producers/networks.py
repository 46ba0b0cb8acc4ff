"""The network of a caller's address: what is kept of where a call came from. Addresses themselves are never published.

A network is as wide as one site usually has: /24 of IPv4, /48 of IPv6.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

IPV4_BITS: Final = 24
IPV6_BITS: Final = 48
MAX_ADDRESS_LENGTH: Final = 64


def network_of(address: object) -> str | None:
    """`203.0.113.0/24` of `203.0.113.7`, `2001:db8:7::/48` of `2001:db8:7::1`; None for what is no address.

    An IPv4 address inside an IPv6 one (`::ffff:203.0.113.7`) is that IPv4 address.
    """
    if not isinstance(address, str) or len(address) > MAX_ADDRESS_LENGTH:
        return None
    return _network_of(address)


@lru_cache(maxsize=4096)
def _network_of(text: str) -> str | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return str(IPv4Network((int(address), IPV4_BITS), strict=False))
    return str(IPv6Network((int(address), IPV6_BITS), strict=False))
