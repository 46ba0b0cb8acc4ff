"""Of any address the network is kept, and nothing of the address beyond it; any other text is no network."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatemeter.producers.networks import network_of
from gatemeter.producers.validation import spool_form
from support.producers import request

IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)


@given(IPV4 | IPV6)
def test_the_network_of_an_address_holds_it_and_is_as_wide_as_a_site(address: IPv4Address | IPv6Address) -> None:
    said = network_of(str(address))
    assert said is not None
    network = ip_network(said)
    assert address in network
    assert network.prefixlen == (24 if address.version == 4 else 48)


@given(IPV4)
def test_an_ipv4_address_inside_an_ipv6_one_is_that_ipv4_address(address: IPv4Address) -> None:
    assert network_of(f"::ffff:{address}") == network_of(str(address))


@given(st.data(), IPV4 | IPV6)
def test_two_addresses_of_one_site_are_not_told_apart(data: st.DataObject, address: IPv4Address | IPv6Address) -> None:
    network = ip_network(network_of(str(address)) or "")
    other = data.draw(st.ip_addresses(network=network))
    assert network_of(str(other)) == str(network)


@given(IPV4 | IPV6)
def test_every_network_is_accepted_of_an_event(address: IPv4Address | IPv6Address) -> None:
    assert spool_form(request(client_network=network_of(str(address))))


@given(st.text() | st.integers() | st.none() | st.binary() | st.from_regex(re.compile(r"[0-9.:%/]{1,20}")))
def test_what_is_no_address_has_no_network(said: Any) -> None:
    found = network_of(said)
    assert found is None or isinstance(said, str)
    if isinstance(said, str) and "/" in said:
        assert found is None
