# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of an NFS export: what exportfs takes a word for, and what we are willing to write.

exportfs takes nearly anything: a bracketed IPv6 address is a character class, ``gss/krb5i`` a host without Kerberos,
two names with a comma between them one name that does not resolve. So reading (:func:`classify`) and writing
(:func:`parse_client`) are different things here.

Source: exports(5), and exportfs 2.6.2 to 3.1.1 when asked (tests/lab/exports_oracle.py).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class ClientKind(Enum):
    """The kinds of exportfs. The value is the place in its table, which is also the order of matching."""

    HOST = 0
    NETWORK = 1
    WILDCARD = 2
    NETGROUP = 3
    ANYBODY = 4
    GSS = 5


class ClientError(ValueError):
    """We do not write this client. ``reason`` says why, ``allowed`` what would do."""

    def __init__(self, client: str, reason: str, allowed: str = "") -> None:
        self.client = client
        self.reason = reason
        self.allowed = allowed or (
            "a host name, an IPv4 or IPv6 address, a network such as 192.0.2.0/24 or 2001:db8::/64, "
            "a pattern such as *.example.org, or @netgroup"
        )
        super().__init__(f"{client!r}: {reason}")


@dataclass(frozen=True)
class Host:
    """What the server's resolver says of a name: the canonical one and all its addresses."""

    canonical: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Client:
    """A client as we write it. ``notes`` are remarks for the user, in (code, text) pairs."""

    text: str
    kind: ClientKind
    notes: tuple[tuple[str, str], ...] = ()


def classify(text: str) -> ClientKind:
    """What exportfs takes the word for; never raises.

    >>> classify("192.0.2.1").name, classify("[2001:db8::]/64").name, classify("2001:db8::/64").name
    ('HOST', 'WILDCARD', 'NETWORK')
    """
    if text in ("", "*"):
        return ClientKind.ANYBODY
    if text.startswith("gss/"):
        return ClientKind.GSS
    if text.startswith("@"):
        return ClientKind.NETGROUP
    position = 0
    while position < len(text):
        letter = text[position]
        if letter in "*?[":
            return ClientKind.WILDCARD
        if letter == "/":
            return ClientKind.NETWORK
        # A backslash takes the meaning from the next character.
        position += 2 if letter == "\\" else 1
    return ClientKind.HOST


def parse_address(text: str) -> Address | None:
    """An address in its usual notation, None for anything else."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def network_problem(text: str) -> tuple[str, str] | None:
    """Why exportfs drops the network ``text``: (code, the part that is wrong), or None when it takes it."""
    base_text, _slash, mask = text.partition("/")
    base = parse_address(base_text)
    if base is None:
        return "bad_address", text
    separator = "." if base.version == 4 else ":"
    if separator in mask:
        return None if parse_address(mask) is not None else ("bad_netmask", mask)
    if re.match(r"(\s*\+?[0-9]+)?\Z", mask) is None or int(mask or "0") > base.max_prefixlen:
        return "bad_prefix", mask
    return None


def network_of(text: str) -> Network | None:
    """The addresses that a client word stands for, or None when it is a name, a pattern or nonsense.

    >>> network_of("192.0.2.55/24") == network_of("192.0.2.0/255.255.255.0")
    True
    """
    if classify(text) is ClientKind.ANYBODY:
        return None
    try:
        if text.endswith("/"):
            text += "0"
        address, slash, mask = text.partition("/")
        if slash and ":" in mask:
            mask = str(bin(int(ipaddress.IPv6Address(mask))).count("1"))
        return ipaddress.ip_network(f"{address}/{mask}" if slash else address, strict=False)
    except ValueError:
        return None


def is_world(text: str) -> bool:
    """Whether the client is everybody: ``*``, no client at all, or a network of length 0."""
    if classify(text) is ClientKind.ANYBODY:
        return True
    network = network_of(text)
    return network is not None and network.prefixlen == 0


def is_bracketed(text: str) -> bool:
    """An address in brackets, which exportfs takes for a character class that matches nobody."""
    return re.match(r"\[[0-9a-fA-F:.]*[:.][0-9a-fA-F:.]*\](/|\Z)", text) is not None


def is_address_pattern(text: str) -> bool:
    """A wildcard in an address. It is compared with names, so it matches only a machine without reverse DNS."""
    return (
        classify(text) is ClientKind.WILDCARD
        and text not in ("*", "**", "?")
        and re.match(r"[0-9.*?]*\.[0-9.*?]*\Z|[0-9a-fA-F:*?]*:[0-9a-fA-F:*?]*\Z", text) is not None
    )


def has_host_bits(text: str) -> bool:
    """Whether a network is written with the address of one machine in it: 192.0.2.55/24."""
    network = network_of(text)
    address = parse_address(text.partition("/")[0])
    return network is not None and "/" in text and address is not None and address != network.network_address


def same_client(one: str, other: str, hosts: Mapping[str, Host | None]) -> bool:
    """Whether two words name the same client: by value for networks, by address for names, else by text."""
    if one.casefold() == other.casefold() or (is_world(one) and one in ("", "*") and other in ("", "*")):
        return True
    first, second = network_of(one), network_of(other)
    if first is not None and second is not None:
        return first == second
    return bool(addresses_of(one, hosts) & addresses_of(other, hosts))


def addresses_of(text: str, hosts: Mapping[str, Host | None]) -> frozenset[str]:
    """The addresses of a single machine given by name or address, as far as they are known."""
    if classify(text) is not ClientKind.HOST:
        return frozenset()
    address = parse_address(text)
    if address is not None:
        return frozenset((str(address),))
    host = hosts.get(text)
    return frozenset() if host is None else frozenset(host.addresses)


def uncovered(addresses: Iterable[str], clients: Iterable[str], hosts: Mapping[str, Host | None]) -> list[str]:
    """Those addresses that no client entry lets in.

    A pattern or a netgroup may let in anybody; it does not count, since nobody can say without asking the server's
    name service for each machine.
    """
    words = list(clients)
    missing = []
    for text in addresses:
        address = parse_address(text)
        if address is None or not any(_lets_in(word, address, hosts) for word in words):
            missing.append(text)
    return missing


def _lets_in(word: str, address: Address, hosts: Mapping[str, Host | None]) -> bool:
    if classify(word) is ClientKind.ANYBODY:
        return True
    network = network_of(word)
    if network is not None:
        return address.version == network.version and address in network
    return str(address) in addresses_of(word, hosts)


_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?\Z")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]^!-]{1,253}\Z")
_NETGROUP = re.compile(r"@[A-Za-z0-9_.+-]{1,253}\Z")


def parse_client(text: str) -> Client:
    """Check and normalise a client that a user wants to write. Raises ClientError.

    >>> parse_client("[2001:DB8::]/64").text, parse_client("192.0.2.0/255.255.255.0").text
    ('2001:db8::/64', '192.0.2.0/24')
    """
    _refuse_letters(text)
    if text == "*":
        return Client(text, ClientKind.ANYBODY)
    if text.startswith(("gss/", "GSS/")):
        flavour = text[4:] or "krb5"
        raise ClientError(
            text,
            "exportfs takes this for a host name and exports with sec=sys, which is no Kerberos",
            f"a client such as 192.0.2.0/24 with the option sec={flavour}",
        )
    if text.startswith("@"):
        if _NETGROUP.match(text) is None:
            raise ClientError(text, "not the name of a netgroup")
        return Client(text, ClientKind.NETGROUP)
    if is_bracketed(text):
        text = _strip_brackets(text)
    if "/" in text:
        return _parse_network(text)
    if any(letter in text for letter in "*?["):
        return _parse_pattern(text)
    return _parse_host(text)


def _refuse_letters(text: str) -> None:
    """What would end the word, or turn it into something else."""
    if not text:
        raise ClientError(text, "an export without a client is an export to the whole world")
    if re.search(r"\s", text):
        raise ClientError(text, "a blank ends the word: what follows it would be exported to the whole world")
    if "(" in text or ")" in text:
        raise ClientError(text, "parentheses enclose the options, which are given on their own")
    if "," in text:
        raise ClientError(
            text,
            "a comma does not separate clients; exportfs takes this for one host name",
            "a list with one entry per client",
        )
    if text.startswith("-"):
        raise ClientError(text, "a dash begins a list of default options")
    if re.search(r"[\"'\\#\x00-\x1f\x7f-\U0010ffff]", text):
        raise ClientError(text, "quotes, backslash, # and anything but ASCII do not belong in a client")


def _strip_brackets(text: str) -> str:
    inside, _bracket, rest = text[1:].partition("]")
    if isinstance(parse_address(inside), ipaddress.IPv6Address):
        return inside + rest
    raise ClientError(text, "brackets make a character class that matches nobody", "the address without brackets")


def _parse_network(text: str) -> Client:
    problem = network_problem(text)
    if problem is not None and problem[0] == "bad_prefix":
        longest = 128 if ":" in text else 32
        raise ClientError(text, f"the prefix length {problem[1]!r} is none", f"a number from 0 to {longest}")
    network = network_of(text) if problem is None else None
    if network is None or text.endswith("/"):
        raise ClientError(text, "not an IP network", "for example 192.0.2.0/24 or 2001:db8::/64")
    notes = []
    if has_host_bits(text):
        notes.append(("host_bits", f"client {text} means the whole network {network}"))
    return Client(str(network), ClientKind.NETWORK, tuple(notes))


def _parse_pattern(text: str) -> Client:
    if _PATTERN.match(text) is None:
        raise ClientError(text, "not a pattern of host names")
    notes = []
    if is_address_pattern(text):
        notes.append(
            (
                "address_pattern",
                f"client {text}: a pattern is compared with host names, so this lets in only "
                "machines without reverse DNS; write a network such as 192.0.2.0/24",
            )
        )
    return Client(text, ClientKind.WILDCARD, tuple(notes))


def _parse_host(text: str) -> Client:
    bare, _percent, _zone = text.partition("%")
    address = parse_address(bare)
    if address is not None:
        return Client(str(address) if bare == text else text, ClientKind.HOST)
    # The resolver takes 192.0.2, 010.0.0.1 and 3232235777 for addresses that nobody meant.
    if ":" in text or re.match(r"(0[xX][0-9a-fA-F]+|\d+)(\.(0[xX][0-9a-fA-F]+|\d+))*\Z", text):
        raise ClientError(text, "not an IP address")
    if _HOST_NAME.match(text) is None:
        raise ClientError(text, "not a host name")
    return Client(text, ClientKind.HOST)
