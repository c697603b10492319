# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run in a proxy's pod, and what its answers mean: a configuration tried, loaded, and the proxy's own view.

The programs need a shell with ``printf`` and ``sed``, and one of bash, curl and wget. They know no password. What a
proxy says about the pets comes from its statistics; source: Management Guide of HAProxy 3.2, "CSV format".
"""

from __future__ import annotations

import csv
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .haproxy import CONFIG_FILE, HASH_LINE, HASH_PATH, READER, SINGLE_WRITER, STATS_PATH, WRITER, ProxyConfig
from .proxy import SCRATCH_PATH
from .status_table import render_table

# fetch PATH: what the proxy itself serves there, with or without the header of the answer taken off.
_FETCH: Final = """\
fetch() {
    if command -v bash >/dev/null 2>&1; then
        bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET %s HTTP/1.0\\r\\n\\r\\n" "$2" >&3 && cat <&3' \\
            - "$port" "$1" 2>/dev/null | sed '1,/^.\\{0,1\\}$/d'
    elif command -v curl >/dev/null 2>&1; then
        curl -s --max-time 5 "http://127.0.0.1:$port$1"
    else
        wget -q -T 5 -O - "http://127.0.0.1:$port$1" 2>/dev/null
    fi
}
"""
_MOUNTED: Final = f"""\
mounted=
IFS= read -r first <"$file" && mounted=${{first#"{HASH_LINE}"}}
"""
_TRY: Final = f"""\
candidate={SCRATCH_PATH}/candidate-$$.cfg
printf '%s' "$1" >"$candidate" || exit 1
if said=$(haproxy -c -f "$candidate" 2>&1); then echo taken; else echo refused; printf '%s\\n' "$said"; fi
rm -f "$candidate"
"""
_LOAD: Final = (
    _FETCH
    + _MOUNTED
    + f"""\
live() {{ fetch {HASH_PATH}; }}
if [ "$mounted" != "$wanted" ]; then echo "mounted $mounted"; exit 0; fi
if [ "$(live)" = "$wanted" ]; then echo live; exit 0; fi
if ! said=$(haproxy -c -f "$file" 2>&1); then echo refused; printf '%s\\n' "$said"; exit 0; fi
kill -USR2 "$master"
tries=0
while [ "$tries" -lt 100 ]; do
    if [ "$(live)" = "$wanted" ]; then echo loaded; exit 0; fi
    sleep 0.1
    tries=$((tries + 1))
done
echo "still $(live)"
"""
)
_LOOK: Final = (
    _FETCH
    + _MOUNTED
    + f"""\
echo "mounted $mounted"
echo "live $(fetch {HASH_PATH})"
fetch '{STATS_PATH};csv'
"""
)


class Loaded(enum.Enum):
    """How far a proxy is with a configuration. NOT_MOUNTED: the kubelet has not brought the file yet."""

    NOT_MOUNTED = "not mounted"
    REFUSED = "refused"
    STILL_OLD = "still old"
    LIVE = "live"
    JUST_NOW = "just now"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What the program said; ``words`` are HAProxy's own when it refuses."""

    state: Loaded
    words: str = ""

    @property
    def done(self) -> bool:
        """Whether the proxy works with the configuration that is wanted."""
        return self.state in (Loaded.LIVE, Loaded.JUST_NOW)


def try_command(text: str) -> list[str]:
    """Let the HAProxy in a pod judge a configuration that is not in use."""
    return ["/bin/sh", "-c", _TRY, "petset-try", text]


def load_command(config: ProxyConfig, digest: str, master: int = 1) -> list[str]:
    """Make the HAProxy in a pod load its file, when that is the one with this hash and HAProxy takes it.

    ``master`` is the process id of its master, which is the pod's first process.
    """
    return ["/bin/sh", "-c", _values(config) + f"wanted={digest}\nmaster={master}\n" + _LOAD, "petset-load"]


def look_command(config: ProxyConfig) -> list[str]:
    """Hashes and statistics of the HAProxy in a pod."""
    return ["/bin/sh", "-c", _values(config) + _LOOK, "petset-look"]


def _values(config: ProxyConfig) -> str:
    return f"port={config.ports.stats}\nfile={config.folder}/{CONFIG_FILE}\n"


def parse_answer(text: str) -> LoadAnswer:
    """Read what :func:`try_command` or :func:`load_command` printed.

    >>> parse_answer("mounted 0123\\n").state
    <Loaded.NOT_MOUNTED: 'not mounted'>
    """
    first, _line, rest = text.strip().partition("\n")
    word, _blank, more = first.partition(" ")
    state = {
        "mounted": Loaded.NOT_MOUNTED,
        "refused": Loaded.REFUSED,
        "still": Loaded.STILL_OLD,
        "live": Loaded.LIVE,
        "taken": Loaded.LIVE,
        "loaded": Loaded.JUST_NOW,
    }.get(word, Loaded.UNKNOWN)
    return LoadAnswer(state, _alerts(rest) if state is Loaded.REFUSED else more)


def _alerts(said: str) -> str:
    """HAProxy's reasons on one line, without its remarks."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    alerts = [line for line in lines if line.startswith("[ALERT]")] or lines
    return " | ".join(alerts)[:900]


# --- the proxy's own view ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """One pet in one of the two back ends, as a proxy sees it. ``since_s``: for how long it has been so."""

    backend: str
    pet: str
    up: bool
    status: str
    address: str = ""
    check: str = ""
    since_s: int = 0
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What a proxy says. ``failure``: why it could not be asked; the rest is empty then."""

    live: str = ""
    mounted: str = ""
    servers: tuple[Server, ...] = ()
    failure: str = ""

    def up(self, backend: str) -> list[str]:
        """The pets that get traffic."""
        return [one.pet for one in self.servers if one.backend == backend and one.up]


def parse_view(text: str) -> View:
    """Read what :func:`look_command` printed; a proxy that gave no statistics is a failure."""
    lines = text.splitlines()
    values = dict(line.split(" ", 1) for line in lines[:2] if " " in line)
    start = next((number for number, line in enumerate(lines) if line.startswith("# pxname,")), None)
    if start is None:
        return View(failure="its stats page gave no answer")
    rows = csv.DictReader([lines[start][2:], *lines[start + 1 :]])
    servers = tuple(
        Server(
            backend=row["pxname"],
            pet=row["svname"],
            up=row["status"].startswith("UP"),
            status=row["status"],
            address=row.get("addr") or "",
            check=" ".join(filter(None, (row.get("check_status"), row.get("check_code"), row.get("last_chk")))),
            since_s=_number(row.get("lastchg")),
            sessions=_number(row.get("scur")),
        )
        for row in rows
        if row.get("pxname") in (WRITER, READER) and row.get("status") and row.get("svname") != "BACKEND"
    )
    return View(values.get("live", "").strip(), values.get("mounted", "").strip(), servers)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all proxies say together. ``agree`` is None while nobody can tell, ``writers`` what those say that answered.

    ``troubles`` are sentences for a person; empty when all is well. ``uncertain`` are those of them about a proxy that
    could not be asked: it may be well. The others are certain.
    """

    agree: bool | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    troubles: tuple[str, ...] = field(default=())
    uncertain: tuple[str, ...] = field(default=())


def judge_views(views: Mapping[str, View], wanted_hash: str, mode: str) -> Verdict:
    """Compare the proxies, by the names of their pods, with each other and with the configuration that is wanted."""
    asked = {name: view for name, view in views.items() if not view.failure}
    uncertain = tuple(f"{name}: {view.failure}" for name, view in views.items() if view.failure)
    troubles = list(uncertain)
    for name, view in asked.items():
        if view.live != wanted_hash:
            troubles.append(f"{name}: it works with configuration {view.live or '(none)'}, wanted is {wanted_hash}")
    writers = {name: tuple(view.up(WRITER)) for name, view in asked.items()}
    agree = len(set(writers.values())) == 1 if asked and len(asked) == len(views) else None
    if len(set(writers.values())) > 1:
        agree = False
        told = "; ".join(f"{name}: {', '.join(pets) or 'none'}" for name, pets in writers.items())
        troubles.append(f"the proxies do not agree on the writer ({told})")
    everyone = tuple(sorted({pet for pets in writers.values() for pet in pets}))
    if asked and not everyone:
        troubles.append("no pet takes writes")
    if mode == SINGLE_WRITER and agree and len(everyone) > 1:
        troubles.append(f"more than one pet takes writes: {', '.join(everyone)}")
    readers = [set(view.up(READER)) for view in asked.values()]
    common = tuple(sorted(set.intersection(*readers))) if readers else ()
    return Verdict(agree, everyone, common, tuple(troubles), uncertain)


def render_view(view: View) -> dict[str, Any]:
    """One proxy's view for a result."""
    return {
        "config_hash": view.live or None,
        "mounted_hash": view.mounted or None,
        "writers": view.up(WRITER),
        "readers": view.up(READER),
        "failure": view.failure,
        "servers": [
            {
                "backend": one.backend,
                "pet": one.pet,
                "up": one.up,
                "status": one.status,
                "address": one.address or None,
                "check": one.check,
                "since_s": one.since_s,
                "sessions": one.sessions,
            }
            for one in view.servers
        ],
    }


def table_of_proxies(proxies: Sequence[Mapping[str, Any]], verdict: Verdict) -> str:
    """One line for each proxy, and the troubles below: what is not known apart from what is certain."""
    rows = [
        [
            one["name"],
            "ready" if one["ready"] else "not ready",
            one["node"],
            ",".join(one["writers"]),
            ",".join(one["readers"]),
            sum(server["sessions"] for server in one["servers"]),
            one["config_hash"],
        ]
        for one in proxies
    ]
    table = render_table(["PROXY", "STATE", "NODE", "WRITER", "READERS", "SESSIONS", "CONFIG"], rows)
    notes = [f"{one['name']}: {one['reason']}" for one in proxies if not one["ready"]]
    notes += [one if one not in verdict.uncertain else f"not known: {one}" for one in verdict.troubles]
    return "\n".join([table, *notes])
