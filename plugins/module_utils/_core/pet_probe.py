# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look from within a pet: how the kernel has mounted its volume, and whether its peers answer by their names.

The program needs a shell, coreutils, sed and getent, and changes nothing. Connections are made with bash, where the
image has it: MySQL speaks first, so that its greeting shows that a server takes connections. Where the image has
MySQL's own client, it asks a question in SQL as well, as the account of the replication, which every pet has for the
others and which may read nothing; the password goes from the pet's file to the client through a pipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .manifests import PORT, SECRET_PATH, TLS_PATH, VOLUME_PATH

IDENTITY_FILE: Final = ".petset-identity.json"
# One line each: "mount <type> <source> <options>", "nfsv4 <what the client knows of the server>" and "layoutget <calls>
# and more figures" of that mount as /proc/self/mountstats has them, "size <free bytes>", "file ok",
# "identity <server_uuid>", "write ok", "write refused" or "write unknown", "dns <peer> <address>...",
# "ping <peer> <version or word>", "sql <peer> ok", "sql <peer> unknown" or "sql <peer> failed <words>". After "size"
# and "file" stands silent when the volume gives no answer, or an error. To ask for the size needs no open file, which
# an NFS server does not give in its grace period. The pet's identity file is on every volume that was prepared.
SCRIPT: Final = f"""\
port={PORT}
while read -r _ _ _ _ point options rest; do
    [ "$point" != "{VOLUME_PATH}" ] || found="${{rest#*- }} $options"
done </proc/self/mountinfo
[ -z "${{found:-}}" ] || echo "mount $found"
if [ -r /proc/self/mountstats ]; then
    while read -r word rest; do
        case $word in
            device)
                ours=
                case $rest in *" mounted on {VOLUME_PATH} with fstype nfs"*) ours=yes nfsv4='' layoutget='' ;; esac
                ;;
            nfsv4:) [ -z "${{ours:-}}" ] || nfsv4=$rest ;;
            LAYOUTGET:) [ -z "${{ours:-}}" ] || layoutget=$rest ;;
        esac
    done </proc/self/mountstats
    [ -z "${{nfsv4:-}}" ] || echo "nfsv4 $nfsv4"
    [ -z "${{layoutget:-}}" ] || echo "layoutget $layoutget"
fi
ask() {{
    what=$1
    shift
    status=0
    said=$(timeout -s KILL 3 "$@" 2>&1) || status=$?
    case $status in
        0) echo "$what ${{said:-ok}}" ;;
        124 | 137) echo "$what silent" ;;
        *) echo "$what failed ${{said##*: }}" ;;
    esac
}}
ask size stat -f -c '%a %S' "{VOLUME_PATH}"
ask file dd if="{VOLUME_PATH}/{IDENTITY_FILE}" of=/dev/null status=none
echo "identity $(timeout -s KILL 3 sed -n 's/.*"server_uuid"[^"]*"\\([0-9A-Fa-f-]*\\)".*/\\1/p' \\
    "{VOLUME_PATH}/{IDENTITY_FILE}" 2>/dev/null | sed 1q)"
status=0
timeout -s KILL 3 test -w "{VOLUME_PATH}" 2>/dev/null || status=$?
case $status in
    0) echo "write ok" ;;
    1) echo "write refused" ;; # asks an NFS server, and writes nothing
    *) echo "write unknown" ;;
esac
for peer in "$@"; do
    echo "dns $peer $(getent ahosts "$peer" 2>/dev/null | sed 's/[[:space:]].*//' | sort -u | tr '\\n' ' ')"
    if ! command -v bash >/dev/null 2>&1; then
        echo "ping $peer unknown"
        continue
    fi
    said=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2" && dd bs=256 count=1 <&3 2>/dev/null' - "$peer" "$port" \\
        2>/dev/null | tr '\\000' '\\n' | tr -cd '[:print:]\\n' | sed -n '/^[0-9][0-9]*[.][0-9]/{{p;q;}}')
    echo "ping $peer ${{said:-failed}}"
    if [ -z "$said" ] || ! command -v mysql >/dev/null 2>&1 || ! [ -r "{SECRET_PATH}/replication-password" ]; then
        echo "sql $peer unknown"
        continue
    fi
    status=0
    said=$(
        {{
            printf '[client]\nuser=petset_repl\nssl-mode=VERIFY_CA\nssl-ca=%s\n' "{TLS_PATH}/ca.crt"
            printf 'password="%s"\n' "$(sed 's/[\\\\"]/\\\\&/g' "{SECRET_PATH}/replication-password")"
        }} | timeout -s KILL 5 mysql --defaults-file=/dev/stdin --connect-timeout=4 --batch --skip-column-names \
            --host="$peer" --port="$port" --execute='SELECT 1' 2>&1
    ) || status=$?
    case $status:$said in
        0:1 | 0:*[!0-9]1) echo "sql $peer ok" ;; # after warnings, perhaps
        *"unknown variable"* | *"unknown option"*) echo "sql $peer unknown" ;;
        124:* | 137:*) echo "sql $peer failed no answer" ;;
        *) echo "sql $peer failed $(printf '%s' "$said" | tr '\n' ' ')" ;;
    esac
done
"""

NO_PNFS: Final = "not configured"
"""The kernel's words for a mount without a layout driver (fs/nfs/super.c)."""
_PNFS: Final = re.compile(r"(?:^|,)pnfs=([^,]*)")
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount as the kernel has it: file system type, source, all options sorted into one list.

    ``pnfs``     the layout driver of an NFS mount, or NO_PNFS; empty when the kernel did not tell
    ``layouts``  how often it has asked the server for a layout
    """

    type: str
    source: str
    options: tuple[str, ...]
    pnfs: str = ""
    layouts: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """What one pet saw. ``dns``, ``ping`` and ``sql`` by the peer's name; a version in ``ping`` is an answer, and so is
    ``ok`` in ``sql``, where ``unknown`` says that the image has no client.

    ``size`` and ``file``: how the volume answered, ok, silent or an error. ``write``: ok, refused, or unknown.
    ``identity``: the server_uuid in the identity file, empty when it could not be read.
    ``failure`` tells why it could not look; the rest is empty then.
    """

    mount: Mount | None = None
    dns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ping: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    size: str = ""
    free_bytes: int | None = None
    file: str = ""
    sql: Mapping[str, str] = field(default_factory=dict)
    write: str = "unknown"
    identity: str = ""


def probe_command(peers: Sequence[str]) -> list[str]:
    """The command to run in the pet's container; peers by the names that pets use for each other."""
    return ["/bin/sh", "-c", SCRIPT, "petset-probe", *peers]


def parse_probe(text: str) -> Probe:
    """Read the program's output; lines that are none are passed over."""
    mount: Mount | None = None
    dns: dict[str, tuple[str, ...]] = {}
    ping: dict[str, str] = {}
    sql: dict[str, str] = {}
    answered = {"size": "", "file": ""}
    found = {"write": "unknown", "identity": ""}
    free_bytes: int | None = None
    pnfs, layouts = "", 0
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] in answered:
            said = " ".join(words[1:]).removeprefix("failed").strip()
            if words[0] == "size" and len(words) == 3 and words[1].isdigit() and words[2].isdigit():
                said, free_bytes = "ok", int(words[1]) * int(words[2])
            answered[words[0]] = said
        if words[0] in found:
            found[words[0]] = words[1]
        if words[0] == "mount" and len(words) >= 4:
            options = {option for part in words[3:] for option in part.split(",")}
            mount = Mount(words[1], words[2], tuple(sorted(options)))
        elif words[0] == "nfsv4":
            told = _PNFS.search(" ".join(words[1:]))
            pnfs = told[1].strip() if told else ""
        elif words[0] == "layoutget" and words[1].isdigit():
            layouts = int(words[1])
        elif words[0] == "dns":
            dns[words[1]] = tuple(words[2:])
        elif words[0] == "ping" and len(words) >= 3:
            ping[words[1]] = words[2]
        elif words[0] == "sql" and len(words) >= 3:
            sql[words[1]] = " ".join(words[2:]).removeprefix("failed ")
    if mount is not None:
        mount = replace(mount, pnfs=pnfs, layouts=layouts)
    size, file = answered["size"], answered["file"]
    return Probe(mount, dns, ping, "", size, free_bytes, file, sql, found["write"], found["identity"])


def redact_probe(probe: Probe, hide: Callable[[str], str]) -> Probe:
    """The probe without secrets in what programs said; words with a meaning stay."""

    def said(text: str) -> str:
        return text if text in ("", "ok", "silent", "unknown") else hide(text)

    return replace(
        probe,
        failure=said(probe.failure),
        size=said(probe.size),
        file=said(probe.file),
        sql={peer: said(text) for peer, text in probe.sql.items()},
    )


def judge_probes(probes: Mapping[str, Probe], addresses: Mapping[str, str], service: str) -> dict[str, dict[str, Any]]:
    """For each pet that looked: its mount, and for each peer whether name and server are right.

    ``addresses`` are the pods' addresses by pet. ``dns_ok`` and ``ping_ok`` are None when nobody could tell.
    """
    judged: dict[str, dict[str, Any]] = {}
    for pet, probe in probes.items():
        names = {f"{other}.{service}": address for other, address in addresses.items()}
        wrong = {
            name: list(probe.dns.get(name, ())) for name, address in names.items() if not _answers(probe, name, address)
        }
        silent = [name for name in names if not _VERSION.match(probe.ping.get(name, ""))]
        refused = [name for name in names if probe.sql.get(name, "unknown") not in ("ok", "unknown")]
        unknown = bool(probe.failure)
        judged[pet] = {
            "mount": None
            if probe.mount is None
            else {
                "type": probe.mount.type,
                "source": probe.mount.source,
                "options": list(probe.mount.options),
                "pnfs": probe.mount.pnfs or None,
                "layouts": probe.mount.layouts,
            },
            "storage": {
                "size": probe.size,
                "free_bytes": probe.free_bytes,
                "file": probe.file,
                "write": probe.write,
                "server_uuid": probe.identity or None,
            }
            if probe.size and probe.file
            else None,
            "dns_ok": None if unknown else not wrong,
            "dns_wrong": {} if unknown else wrong,
            "ping_ok": None if unknown or "unknown" in probe.ping.values() else not silent and not refused,
            "ping": dict(probe.ping),
            "sql": dict(probe.sql),
            "probe_failure": probe.failure,
        }
    return judged


def _answers(probe: Probe, name: str, address: str) -> bool:
    return address in probe.dns.get(name, ())
