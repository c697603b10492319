# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is every pet itself, on its own volume, and answering? Judged from what pet_set_info saw; nothing is asked here.

A finding is one statement about one pet: right, wrong with its evidence and the way out, or unknown when nobody could
tell. What is unknown is never taken for right.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .names import claim_name, pet_name
from .pet_probe import NO_PNFS
from .pods import POD_INDEX_LABEL, WAY_OUT, Trouble, find_storage_trouble
from .report import Check, Report
from .volumes import canonical_export


class Verdict(enum.Enum):
    """Of a finding, and of all together; the later one wins."""

    RIGHT = "right"
    UNKNOWN = "unknown"
    WRONG = "wrong"


_WORSE: Final = {Verdict.RIGHT: 0, Verdict.UNKNOWN: 1, Verdict.WRONG: 2}
# The words of reports.
_REPORTED: Final = {Verdict.RIGHT: "true", Verdict.UNKNOWN: "unknown", Verdict.WRONG: "false"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about one pet.

    ``check``     what was looked at: pod, identity, claim, volume, mount, storage, dns, ping
    ``trouble``   stable word for what is wrong; empty when nothing is
    ``evidence``  what was seen
    ``way_out``   what mends it
    """

    pet: str
    check: str
    verdict: Verdict
    trouble: str = ""
    evidence: str = ""
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings. ``healthy`` needs every one of them to be right."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst; unknown when nothing was looked at."""
        return max((one.verdict for one in self.findings), key=_WORSE.__getitem__, default=Verdict.UNKNOWN)

    @property
    def healthy(self) -> bool:
        """Whether all is right and known."""
        return self.verdict is Verdict.RIGHT

    def ways_out(self) -> list[str]:
        """A line for each trouble that something mends, for a person."""
        return [
            f"{one.pet} {one.trouble}: {one.way_out}"
            for one in self.findings
            if one.verdict is Verdict.WRONG and one.way_out
        ]

    def describe(self) -> str:
        """One line: what is wrong, else what is unknown, else that all is right."""
        for verdict, lead in ((Verdict.WRONG, "wrong"), (Verdict.UNKNOWN, "not known")):
            found = [one for one in self.findings if one.verdict is verdict]
            if found:
                return f"{lead}: " + "; ".join(f"{one.pet} {one.check}: {one.evidence}" for one in found)
        return "every pet is itself, on its own volume, and answers" if self.findings else "there is nothing to look at"


_WHOSE: Final = "find out whose data it holds before anything is written, then correct the labels or the volume"
SITE: Final = "run the playbook site: it binds claim and volume again when server, path and ordinal agree"


def diagnose(
    set_name: str,
    pets: Sequence[Mapping[str, Any]],
    known: Mapping[int, str] | None,
    claim_template: str = "db",
    namespace: str = "default",
) -> Diagnosis:
    """Judge a set by its pets as pet_set_info returns them.

    ``known``  server_uuid by ordinal of pets that have had data, as recorded; None when it could not be read
    """
    findings: list[Finding] = []
    for pet in pets:
        findings += [
            _pod(pet),
            _identity(set_name, pet, known),
            _claim(set_name, pet, claim_template, namespace),
            _volume(set_name, pet, namespace),
            _mount(pet),
            _storage(pet),
            _names(pet),
            _answers(pet),
        ]
    return Diagnosis((*findings, *_shared(pets)))


def _pod(pet: Mapping[str, Any]) -> Finding:
    name = str(pet["name"])
    if pet["ready"]:
        return Finding(name, "pod", Verdict.RIGHT)
    word = str(pet["trouble"])
    way_out = next((text for trouble, text in WAY_OUT.items() if trouble.value == word), "")
    return Finding(name, "pod", Verdict.WRONG, word, str(pet["reason"] or "it is not ready"), way_out)


def _identity(set_name: str, pet: Mapping[str, Any], known: Mapping[int, str] | None) -> Finding:
    name, ordinal = str(pet["name"]), int(pet["ordinal"])
    if name != pet_name(set_name, ordinal):
        return Finding(
            name, "identity", Verdict.WRONG, "wrong_name", f"the pod with ordinal {ordinal} is called {name}"
        )
    if pet.get("pod_index") not in (None, str(ordinal)):
        text = f"the label {POD_INDEX_LABEL} of its pod is {pet['pod_index']}, its name says {ordinal}"
        return Finding(name, "identity", Verdict.WRONG, "wrong_name", text, "look who changed it, then delete the pod")
    uuid = pet.get("server_uuid")
    on_volume = (pet.get("storage") or {}).get("server_uuid")
    own = uuid or (known or {}).get(ordinal)
    if own and on_volume and str(on_volume).lower() != str(own).lower():
        return Finding(
            name,
            "identity",
            Verdict.WRONG,
            Trouble.FOLDER_OF_OTHER.value,
            f"its server_uuid is {own}, and its folder now belongs to {on_volume}",
            WAY_OUT[Trouble.FOLDER_OF_OTHER],
        )
    if known is None or not uuid:
        why = "the record of known pets may not be read" if known is None else "its server_uuid is not known"
        return Finding(name, "identity", Verdict.UNKNOWN, "", why)
    if ordinal not in known:
        return Finding(name, "identity", Verdict.UNKNOWN, "", "it is not in the record of known pets yet; run site")
    if known[ordinal].lower() != str(uuid).lower():
        return Finding(
            name,
            "identity",
            Verdict.WRONG,
            "other_server",
            f"its server_uuid is {uuid}, recorded is {known[ordinal]}",
            "find the folder with the recorded server_uuid before anything is written; do not edit the record",
        )
    return Finding(name, "identity", Verdict.RIGHT)


def _owner(set_name: str, namespace: str, pet: Mapping[str, Any], told: object) -> str:
    """Whose a claim or a volume is by its labels, when that is not this pet; what has no label is made by others."""
    found: Mapping[str, str] = told if isinstance(told, Mapping) else {}
    own = {"namespace": namespace, "set": set_name, "ordinal": str(pet["ordinal"])}
    return ", ".join(
        f"{word} {found[word]} instead of {own[word]}" for word in own if found.get(word, "") not in ("", own[word])
    )


def _claim(set_name: str, pet: Mapping[str, Any], template: str, namespace: str) -> Finding:
    name, phase = str(pet["name"]), pet.get("claim_phase")
    wanted = claim_name(template, set_name, int(pet["ordinal"]))
    if pet.get("claim") != wanted:
        return Finding(
            name,
            "claim",
            Verdict.WRONG,
            "wrong_claim",
            f"it uses claim {pet.get('claim') or '(none)'}, its own is {wanted}",
        )
    other = _owner(set_name, namespace, pet, pet.get("claim_owner"))
    if other:
        text = f"claim {wanted} is labelled {other}"
        return Finding(name, "claim", Verdict.WRONG, "wrong_ordinal", text, _WHOSE)
    if phase is None:
        return Finding(name, "claim", Verdict.UNKNOWN, "", "claims may not be read")
    if phase == "missing":
        return Finding(name, "claim", Verdict.WRONG, "claim_lost", f"claim {wanted} is gone", SITE)
    if phase == "Lost":
        text = f"claim {wanted} is Lost: its volume {pet.get('volume')} is gone"
        return Finding(name, "claim", Verdict.WRONG, "volume_lost", text, SITE)
    if phase != "Bound":
        return Finding(name, "claim", Verdict.WRONG, "claim_not_bound", f"claim {wanted} is {phase}", SITE)
    return Finding(name, "claim", Verdict.RIGHT)


def _volume(set_name: str, pet: Mapping[str, Any], namespace: str) -> Finding:
    name, phase, volume = str(pet["name"]), pet.get("volume_phase"), pet.get("volume")
    if phase == "Released":
        text = f"volume {volume} is Released: it waits for a claim that is gone"
        return Finding(name, "volume", Verdict.WRONG, "volume_released", text, SITE)
    if pet.get("bound_both_ways") is False:
        bound, uid = pet.get("volume_claim_uid"), pet.get("claim_uid")
        text = (
            f"volume {volume} belongs to another claim of that name: to the one with uid {bound}, this one's is {uid}"
        )
        return Finding(name, "volume", Verdict.WRONG, "volume_of_other_claim", text, SITE)
    other = _owner(set_name, namespace, pet, pet.get("volume_owner"))
    if other:
        return Finding(name, "volume", Verdict.WRONG, "wrong_ordinal", f"volume {volume} is labelled {other}", _WHOSE)
    if phase is None:
        return Finding(name, "volume", Verdict.UNKNOWN, "", f"volume {volume or ''} may not be read, or is not there")
    if phase != "Bound":
        return Finding(name, "volume", Verdict.WRONG, "volume_not_bound", f"volume {volume} is {phase}", SITE)
    if pet.get("bound_both_ways") is None:
        return Finding(name, "volume", Verdict.UNKNOWN, "", f"nobody could tell which claim volume {volume} belongs to")
    return Finding(name, "volume", Verdict.RIGHT)


def _mount(pet: Mapping[str, Any]) -> Finding:
    """The kernel's word on the mount: the right export, read-write, hard, v4.1 or later, with the server's locks, and
    without layouts."""
    name, mount, export = str(pet["name"]), pet.get("mount"), pet.get("export")
    if not mount:
        why = pet.get("probe_failure") or "nobody could look from within the pet"
        return Finding(name, "mount", Verdict.UNKNOWN, "", str(why))
    options = set(mount["options"])
    wrong: list[tuple[str, str]] = []
    unknown = ""
    if "ro" in options:
        wrong.append(("read_only", "it is mounted read-only"))
    if str(mount["type"]).startswith("nfs"):
        # The kernel writes server and path in its own spelling, a volume that was made by hand in another.
        if export and canonical_export(str(mount["source"])) != canonical_export(str(export)):
            wrong.append(("wrong_export", f"{mount['source']} is mounted, the volume is {export}"))
        wrong += _nfs_options(options)
        pnfs, layouts = mount.get("pnfs"), int(mount.get("layouts") or 0)
        if pnfs is None:
            unknown = "the kernel does not tell whether it uses pNFS layouts"
        elif pnfs != NO_PNFS or layouts:
            text = f"pNFS is in use ({pnfs}, {layouts} layouts asked for): data go past the server that expires clients"
            wrong.append(("nfs_pnfs", text))
    elif export:
        wrong.append(("wrong_export", f"{mount['source']} ({mount['type']}) is mounted, the volume is {export}"))
    if not wrong:
        return Finding(name, "mount", Verdict.UNKNOWN if unknown else Verdict.RIGHT, "", unknown)
    return Finding(
        name,
        "mount",
        Verdict.WRONG,
        wrong[0][0],
        "; ".join(text for _word, text in wrong),
        "correct the export's options (pnfs among them) or the volume's, then delete the pod: it is mounted anew",
    )


def _nfs_options(options: set[str]) -> list[tuple[str, str]]:
    wrong = []
    version = next((one.split("=", 1)[1] for one in options if one.startswith("vers=")), "")
    if not version.startswith("4.") or version == "4.0":
        wrong.append(("nfs_version", f"NFS version {version or 'unknown'}, needs 4.1 or later"))
    if options & {"soft", "softerr"} or "hard" not in options:
        wrong.append(("nfs_soft", "it is not mounted hard: an outage becomes an I/O error"))
    local = [one for one in options if one.startswith("local_lock=") and one != "local_lock=none"]
    if "nolock" in options or local:
        wrong.append(("nfs_no_locks", "locks are this node's own"))
    if not options & {"proto=tcp", "proto=tcp6", "proto=rdma", "proto=rdma6"}:
        wrong.append(("nfs_transport", "it is mounted over neither TCP nor RDMA"))
    return wrong


# Less than this is full: InnoDB and the binary logs grow by more in one step.
LEAST_FREE_MIB: Final = 64


def _storage(pet: Mapping[str, Any]) -> Finding:
    """Whether the volume answers: its size at once, and a file that is opened anew."""
    name, told = str(pet["name"]), pet.get("storage")
    if not told:
        why = pet.get("probe_failure") or "nobody could look from within the pet"
        return Finding(name, "storage", Verdict.UNKNOWN, "", str(why))
    found = _judge_storage(str(told["size"]), told["free_bytes"], str(told["file"]), str(told.get("write", "unknown")))
    if found is None:
        return Finding(name, "storage", Verdict.RIGHT)
    if not found[0]:
        return Finding(name, "storage", Verdict.UNKNOWN, "", found[1])
    word, evidence, way_out = found
    return Finding(name, "storage", Verdict.WRONG, word, evidence, way_out)


def _judge_storage(size: str, free_bytes: int | None, file: str, write: str) -> tuple[str, str, str] | None:
    """Word, evidence and way out; None when all is right, an empty word when nobody can tell.

    ``size``   what asking for the file system's size gave, ``file`` what opening a file gave: ok, silent, or an error
    ``write``  whether the pet may write there: ok, refused, or unknown
    """
    for said in (size, file):
        if said in ("ok", "silent"):
            continue
        trouble = find_storage_trouble(said)
        if trouble is not None:
            return trouble.value, said, WAY_OUT[trouble]
        if "No such file" in said:
            trouble = Trouble.FOLDER_EMPTIED
            return trouble.value, "its identity file is gone from under it", WAY_OUT[trouble]
        if "Permission denied" in said or "Operation not permitted" in said:
            return "export_withdrawn", f"the server refuses it: {said}", "export the path to the pet's node: run site"
        return "", f"the volume says: {said}", ""
    if size == "silent":
        return (
            Trouble.SERVER_UNREACHABLE.value,
            "the NFS server does not answer; all I/O waits for it",
            WAY_OUT[Trouble.SERVER_UNREACHABLE] + "; the pet goes on by itself",
        )
    if file == "silent":
        return (
            "nfs_grace",
            "the NFS server answers and opens no file: it is in its grace period after a restart",
            "wait: it is over after nfsv4gracetime (90 s by default), and the pet goes on by itself",
        )
    if write == "refused":
        return (
            Trouble.READ_ONLY.value,
            "its folder may be read and not written to: the server exports it read-only, or its owner or mode changed",
            WAY_OUT[Trouble.READ_ONLY],
        )
    if free_bytes is not None and free_bytes < LEAST_FREE_MIB * 1048576:
        return (
            Trouble.DISK_FULL.value,
            f"{free_bytes // 1048576} MiB are free, less than {LEAST_FREE_MIB}",
            WAY_OUT[Trouble.DISK_FULL],
        )
    return None


def _names(pet: Mapping[str, Any]) -> Finding:
    name, right = str(pet["name"]), pet.get("dns_ok")
    if right is None:
        return Finding(name, "dns", Verdict.UNKNOWN, "", "nobody could look from within the pet")
    if right:
        return Finding(name, "dns", Verdict.RIGHT)
    wrong = "; ".join(
        f"{peer} leads to {', '.join(found) or 'nothing'}"
        for peer, found in sorted((pet.get("dns_wrong") or {}).items())
    )
    return Finding(name, "dns", Verdict.WRONG, "dns", wrong, "look at the governing service and at the cluster's DNS")


def _answers(pet: Mapping[str, Any]) -> Finding:
    name, right = str(pet["name"]), pet.get("ping_ok")
    if right is None:
        return Finding(name, "ping", Verdict.UNKNOWN, "", "nobody could look from within the pet")
    if right:
        return Finding(name, "ping", Verdict.RIGHT)
    silent = ", ".join(sorted(peer for peer, said in (pet.get("ping") or {}).items() if not said[:1].isdigit()))
    if not silent:
        refused = "; ".join(
            f"{peer}: {said}" for peer, said in sorted((pet.get("sql") or {}).items()) if said not in ("ok", "unknown")
        )
        way_out = "look at the log of these pets and at the passwords in the Secret; what replication says is below"
        return Finding(name, "ping", Verdict.WRONG, "no_sql", f"a question is not answered by {refused}", way_out)
    return Finding(
        name, "ping", Verdict.WRONG, "no_answer", f"no greeting from {silent}", "look at these pets and the way to them"
    )


def _shared(pets: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What belongs to one pet only and was found at two."""
    found = []
    for key, word, canonical in (
        ("server_uuid", "same_server_uuid", str.lower),
        ("volume", "same_volume", str.lower),
        ("export", "same_export", canonical_export),
    ):
        owners: dict[str, list[str]] = defaultdict(list)
        for pet in pets:
            if pet.get(key):
                owners[canonical(str(pet[key]))].append(str(pet["name"]))
        for value, names in sorted(owners.items()):
            if len(names) > 1:
                found.append(
                    Finding(
                        names[0],
                        "identity",
                        Verdict.WRONG,
                        word,
                        f"{' and '.join(names)} have the same {key.replace('_', ' ')} {value}",
                        "stop one of them before both write, and find whose data it is",
                    )
                )
    return found


def build_report(subject: str, at: str, diagnosis: Diagnosis, notes: Sequence[str] = ()) -> Report:
    """The diagnosis as a report for a person. Every right check of a kind is one line.

    ``notes``: what is no trouble of a pet and worth knowing, a sentence each
    """
    checks = []
    for name in dict.fromkeys(one.check for one in diagnosis.findings):
        ours = [one for one in diagnosis.findings if one.check == name]
        worst = max((one.verdict for one in ours), key=_WORSE.__getitem__)
        evidence = tuple(
            f"{one.pet}: {one.evidence}" + (f" — {one.way_out}" if one.way_out else "")
            for one in ours
            if one.verdict is not Verdict.RIGHT
        )
        checks.append(Check(name, _REPORTED[worst], evidence))
    pets = sorted({one.pet for one in diagnosis.findings})
    return Report(
        f"Recovery check of {subject}",
        at,
        _REPORTED[diagnosis.verdict],
        diagnosis.describe(),
        (("pets", ", ".join(pets)), *(("nodes", note) for note in notes)),
        tuple(checks),
    )


# Names that results may hold beside those of Trouble; docs/roles/recovery_check.md tells what mends each.
TROUBLES: Final = (
    *(one.value for one in Trouble if one is not Trouble.NONE),
    *("wrong_name", "other_server", "wrong_claim", "wrong_ordinal", "claim_lost", "volume_lost", "claim_not_bound"),
    *("volume_released", "volume_not_bound", "volume_of_other_claim", "wrong_export"),
    *("nfs_version", "nfs_soft", "nfs_no_locks", "nfs_transport", "nfs_pnfs", "nfs_grace", "export_withdrawn"),
    *("dns", "no_answer", "no_sql"),
    *("same_server_uuid", "same_volume", "same_export"),
)
