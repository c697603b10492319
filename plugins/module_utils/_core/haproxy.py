# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""haproxy.cfg out of a :class:`ProxyConfig`: who may be written to and who may be read is asked of the pets' agents.

A pet gets traffic while its agent answers 200 (``/writer`` or ``/reader`` on the agent's port) and loses it, together
with its sessions, with the first other answer. HAProxy itself prefers nobody, so nothing falls back to a pet that
returns, and any number of proxies agree because they ask the same agents. ``option mysql-check`` is of no use: it
cannot log in to MySQL 8.4 and later.

No password and no certificate is in the configuration. Source: Configuration Manual of HAProxy 3.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .errors import InvalidInput

SINGLE_WRITER: Final = "single_writer"
SPREAD: Final = "spread"
MODES: Final = (SINGLE_WRITER, SPREAD)
WRITER: Final = "writer"
READER: Final = "reader"
HEALTH_PATH: Final = "/healthz"
HASH_PATH: Final = "/config-hash"
METRICS_PATH: Final = "/metrics"
STATS_PATH: Final = "/stats"
HASH_LINE: Final = "# config-hash: "
CONFIG_FILE: Final = "haproxy.cfg"
WAIT_FILE: Final = "wait.lua"
# HAProxy turns a client away at once when no server is up, and cannot wait for one by itself.
WAIT_LUA: Final = """\
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Hold a client that comes while no pet is open, until one is, for limit_ms at most.
core.register_action("petset_wait", {"tcp-req"}, function(txn, backend, limit_ms)
    local left_ms = tonumber(limit_ms)
    while left_ms > 0 and txn.f:nbsrv(backend) == 0 do
        core.msleep(10)
        left_ms = left_ms - 10
    end
end, 2)
"""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_NAMESERVER: Final = re.compile(r"(?:[0-9.]+|\[[0-9a-f:]+\]):[0-9]{1,5}", re.ASCII)
_FAMILIES: Final = ("ipv4", "ipv6")


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that HAProxy listens on, and those of a pet: ``mysql`` and its agent's ``health``."""

    writer: int = 3306
    reader: int = 3307
    stats: int = 8404
    mysql: int = 3306
    health: int = 8008


@dataclass(frozen=True, slots=True)
class Times:
    """Times of HAProxy.

    ``check_ms``           between two checks of one pet; a pet is down with the first that fails
    ``check_answer_ms``   for the agent's answer once it is connected
    ``connect_ms``         for a connection to a pet, before the next one is tried
    ``waiting_ms``         how long a client that comes while no pet is open is kept instead of turned away
    ``idle_s``             silence after which a session ends; MySQL itself ends one after wait_timeout, 8 h by default,
                           and should be the first, since it can tell the client
    ``old_sessions_s``     how long sessions may go on in the process that a reload has replaced
    """

    check_ms: int = 200
    check_answer_ms: int = 1000
    connect_ms: int = 250
    waiting_ms: int = 1000
    idle_s: int = 29_400
    old_sessions_s: int = 29_400


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What goes into haproxy.cfg.

    ``pets``        names of all pets, by ordinal
    ``masters``     how many of them, from the first on, may ever be written to
    ``domain``      domain of the governing service, ``db.default.svc.cluster.local``
    ``nameservers`` ``address:port`` of DNS servers; none: those of /etc/resolv.conf
    ``family``      ipv4 or ipv6: the addresses that pets have, and that clients come to (ipv6: both)
    ``folder``      where HAProxy finds the files of :func:`render_files`
    """

    pets: tuple[str, ...]
    domain: str
    masters: int = 2
    mode: str = SINGLE_WRITER
    ports: Ports = field(default_factory=Ports)
    times: Times = field(default_factory=Times)
    max_connections: int = 4000
    threads: int = 2
    family: str = "ipv4"
    nameservers: tuple[str, ...] = ()
    bind_address: str = ""
    folder: str = "/petset/haproxy"


def render_config(config: ProxyConfig) -> str:
    """The text of haproxy.cfg, with its own hash in the first line and at :data:`HASH_PATH`.

    InvalidInput: a name or a number that HAProxy would refuse, or take for something else.
    """
    _check(config)
    digest = config_hash(config)
    return f"{HASH_LINE}{digest}\n" + _body(config, digest)


def render_files(config: ProxyConfig) -> dict[str, str]:
    """All files that HAProxy is given, name to text."""
    return {CONFIG_FILE: render_config(config), WAIT_FILE: WAIT_LUA}


def config_hash(config: ProxyConfig) -> str:
    """16 characters that change with everything that HAProxy has to be told anew."""
    return hashlib.sha256((_body(config, "") + WAIT_LUA).encode()).hexdigest()[:16]


def read_hash(text: str) -> str:
    """The hash of a rendered configuration; empty when it has none.

    >>> read_hash("# config-hash: 0123\\nglobal\\n")
    '0123'
    """
    first = text.split("\n", 1)[0]
    return first[len(HASH_LINE) :].strip() if first.startswith(HASH_LINE) else ""


def _body(config: ProxyConfig, digest: str) -> str:
    sections = (
        _global(config),
        _resolvers(config),
        _defaults(config),
        # One pet answers as the writer. Should two ever do, all proxies choose the same one.
        _route(
            config,
            WRITER,
            config.pets[: config.masters],
            config.ports.writer,
            "first" if config.mode == SINGLE_WRITER else "leastconn",
        ),
        _route(config, READER, config.pets, config.ports.reader, "leastconn"),
        _stats(config, digest),
    )
    # The last line feed matters: HAProxy 3.2 refuses a file without it.
    return "\n".join("\n".join(section) + "\n" for section in sections)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"    {line}" for line in lines)]


def _global(config: ProxyConfig) -> list[str]:
    return _section(
        "global",
        [
            "tune.lua.bool-sample-conversion normal",
            f"lua-load {config.folder}/{WAIT_FILE}",
            "log stdout format raw daemon notice",
            f"maxconn {config.max_connections}",
            # At most so many, and no more than the node has processors.
            f"thread-hard-limit {config.threads}",
            # Old sessions go on in the process that a reload replaces; this ends it at last.
            f"hard-stop-after {config.times.old_sessions_s}s",
            # The pets are checked by all proxies at the same period: not all at the same moment.
            "spread-checks 5",
        ],
    )


def _resolvers(config: ProxyConfig) -> list[str]:
    servers = [f"nameserver dns{number} {one}" for number, one in enumerate(config.nameservers)]
    return _section(
        "resolvers cluster",
        [
            *(servers or ["parse-resolv-conf"]),
            "accepted_payload_size 4096",
            "resolve_retries 2",
            "timeout resolve 1s",
            "timeout retry 500ms",
            # A pet that was replaced has another address: an answer is good for a second.
            "hold valid 1s",
            "hold obsolete 0s",
            # A name that is missing for a moment ends no session; the address may soon be another pod's, though.
            "hold nx 5s",
            # No answer says nothing about the pet: the last address stays in use, and the check judges it.
            "hold timeout 1h",
            "hold refused 1h",
            "hold other 1h",
        ],
    )


def _defaults(config: ProxyConfig) -> list[str]:
    times = config.times
    return _section(
        "defaults",
        [
            "mode tcp",
            "log global",
            "option dontlog-normal",
            "option dontlognull",
            f"maxconn {config.max_connections}",
            f"timeout connect {times.connect_ms}ms",
            f"timeout check {times.check_answer_ms}ms",
            f"timeout client {times.idle_s}s",
            f"timeout server {times.idle_s}s",
            # A client that has gone leaves no session behind, and a node that has gone is noticed in seconds. Checks
            # do that too, but not for the sessions that go on in a process which a reload has replaced.
            "timeout client-fin 30s",
            "timeout server-fin 30s",
            "option clitcpka",
            "clitcpka-idle 10s",
            "clitcpka-intvl 5s",
            "clitcpka-cnt 3",
            "option srvtcpka",
            "srvtcpka-idle 5s",
            "srvtcpka-intvl 2s",
            "srvtcpka-cnt 3",
            "option redispatch 1",
            "retries 4",
        ],
    )


def _route(config: ProxyConfig, name: str, pets: Sequence[str], port: int, balance: str) -> list[str]:
    times, ports = config.times, config.ports
    front = [
        f"bind {_address(config, port)}",
        # Who comes while no pet is open (a switchover, a reload) waits for it, with a limit. The delay itself has no
        # effect but to allow an action to wait; it has to be the longer one.
        f"tcp-request inspect-delay {times.waiting_ms + 1000}ms",
        f"tcp-request content lua.petset_wait {name} {times.waiting_ms} if {{ nbsrv({name}) eq 0 }}",
        f"default_backend {name}",
    ]
    back = [
        f"balance {balance}",
        "option httpchk",
        f"http-check send meth GET uri /{name} ver HTTP/1.1 hdr Host {name}",
        "http-check expect status 200",
        f"default-server check port {ports.health} inter {times.check_ms}ms fall 1 rise 1"
        f" resolvers cluster resolve-prefer {config.family} init-addr none init-state down"
        " observe layer4 error-limit 1 on-error mark-down on-marked-down shutdown-sessions tcp-ut 10s",
        *(f"server {pet} {pet}.{config.domain}.:{ports.mysql}" for pet in pets),
    ]
    return [*_section(f"frontend {name}_clients", front), "", *_section(f"backend {name}", back)]


def _stats(config: ProxyConfig, digest: str) -> list[str]:
    return _section(
        "frontend stats",
        [
            "mode http",
            f"bind {_address(config, config.ports.stats)}",
            "option dontlog-normal",
            "timeout client 10s",
            "timeout http-request 10s",
            f"monitor-uri {HEALTH_PATH}",
            f'http-request return status 200 content-type text/plain string "{digest}" if {{ path {HASH_PATH} }}',
            f"http-request use-service prometheus-exporter if {{ path {METRICS_PATH} }}",
            "stats enable",
            f"stats uri {STATS_PATH}",
            "stats refresh 5s",
            "stats show-legends",
        ],
    )


def _address(config: ProxyConfig, port: int) -> str:
    if config.bind_address:
        return f"{config.bind_address}:{port}"
    return f":::{port} v4v6" if config.family == "ipv6" else f":{port}"


# --- what HAProxy would refuse or misread -----------------------------------------------------------------------------


def _check(config: ProxyConfig) -> None:
    for variable, value, allowed in _faults(config):
        raise InvalidInput(variable, value, "HAProxy cannot be given this", allowed)


def _faults(config: ProxyConfig) -> Iterator[tuple[str, object, str]]:
    if not config.pets:
        yield "pets", list(config.pets), "at least one pet"
    for pet in config.pets:
        if not _NAME.fullmatch(pet) or len(pet) > 63:
            yield "pets", pet, "names of pods: lower-case letters, digits and '-', at most 63 characters"
    if len(set(config.pets)) != len(config.pets):
        yield "pets", list(config.pets), "each name once; HAProxy refuses two servers of one name"
    if len(config.domain) > 253 or not all(_NAME.fullmatch(part) for part in config.domain.split(".")):
        yield "domain", config.domain, "a DNS domain of at most 253 characters, without a dot at its end"
    if config.mode not in MODES:
        yield "mode", config.mode, " or ".join(MODES)
    if config.family not in _FAMILIES:
        yield "family", config.family, " or ".join(_FAMILIES)
    for one in config.nameservers:
        if not _NAMESERVER.fullmatch(one):
            yield "nameservers", one, "address:port"
    if config.bind_address and not re.fullmatch(r"[0-9.]+", config.bind_address):
        yield "bind_address", config.bind_address, "an IPv4 address"
    ports, times = config.ports, config.times
    listening = (ports.writer, ports.reader, ports.stats)
    if len(set(listening)) != len(listening):
        yield "ports", listening, "three different ports"
    for variable, value, low, high in (
        ("masters", config.masters, 1, 1000),
        ("ports.writer", ports.writer, 1024, 65535),
        ("ports.reader", ports.reader, 1024, 65535),
        ("ports.stats", ports.stats, 1024, 65535),
        ("ports.mysql", ports.mysql, 1, 65535),
        ("ports.health", ports.health, 1, 65535),
        ("timeouts.check_ms", times.check_ms, 50, 60_000),
        ("timeouts.check_answer_ms", times.check_answer_ms, 50, 60_000),
        ("timeouts.connect_ms", times.connect_ms, 50, 60_000),
        ("timeouts.waiting_ms", times.waiting_ms, 1, 60_000),
        ("timeouts.idle", times.idle_s, 60, 2_000_000),
        ("timeouts.old_sessions", times.old_sessions_s, 10, 2_000_000),
        ("max_connections", config.max_connections, 10, 1_000_000),
        ("threads", config.threads, 1, 64),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield variable, value, f"a whole number from {low} to {high}"
