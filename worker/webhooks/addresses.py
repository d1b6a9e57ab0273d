"""Which IP addresses a webhook may be sent to: public ones, and private ones where the operator allows them."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in text.split())


PRIVATE = _networks("10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 ::1/128 fc00::/7")
METADATA = _networks("168.63.129.16/32 100.100.100.200/32 fd00:ec2::/32 fd20:ce::/32")
"""Hosts of cloud vendors that hand out credentials, outside the link-local networks."""
NEVER = _networks(
    "0.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
    "224.0.0.0/4 240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20"
)
"""Link-local, documentation, benchmarks, multicast, reserved, Teredo and other protocols."""
UNICAST_6 = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_allowed(address: Address, *, private: bool) -> bool:
    """``private`` adds loopback and private networks; metadata hosts and what is nobody's are never allowed."""
    address = _carried(address)
    if _in(address, METADATA) or _in(address, NEVER):
        return False
    if _in(address, PRIVATE):
        return private
    return address.version == 4 or address in UNICAST_6


def _carried(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _in(address: Address, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)
