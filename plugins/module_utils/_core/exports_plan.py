# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what is there to the steps that change the server.

Nothing is written when the plan is refused, and all refusals are named at once. The same plan gives `changed`, the
diff, the result and what is checked after it was applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import Refused
from .exports import Entry, ParsedFile, Problem, decode, parse_exports, parse_table, printable
from .exports_clients import ClientKind, Host, classify, same_client, uncovered
from .exports_desired import Desired, DesiredExport, parse_owed, render_drop_in, render_owed
from .exports_options import ExportOptions, render_table_options, same_options
from .exports_refusals import (
    is_others,
    refuse_clients,
    refuse_foreign,
    refuse_in_use,
    refuse_lines,
    refuse_others,
    refuse_path,
    warn_machines,
)
from .exports_steps import (
    FileText,
    FlushCaches,
    MakeDirectory,
    MakeFolder,
    MarkWithdrawn,
    Reexport,
    RemoveDropIn,
    SetOwnership,
    Snapshot,
    Step,
    WriteDropIn,
    render_ownership,
)
from .exports_table import EXPORTS_FOLDER, Facts, PathFact, Row, Table, build_table, reading_order
from .nfs_proc import review_versions

DEFAULT_MODE = 0o755


@dataclass(frozen=True)
class Plan:
    """What to do, and what must hold afterwards.

    ``expected``  the rows of the export table that are ours
    ``withdrawn`` pairs of path and client that must not be in the table any more
    ``foreign``   what is wrong in other people's files, so that exportfs fails or loses an export
    """

    steps: tuple[Step, ...]
    expected: tuple[Row, ...]
    withdrawn: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    foreign: tuple[Problem, ...]
    hosts: Mapping[str, Host | None]
    diff: tuple[Mapping[str, str], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)


def parse_files(snapshot: Snapshot) -> list[ParsedFile]:
    """All files that exportfs reads; one that cannot be read has its problem and no entries."""
    parsed = []
    for file in snapshot.files:
        if file.raw is None:
            text = f"cannot be read: {file.error}; exportfs ends with status 1"
            parsed.append(ParsedFile(file.name, (), (Problem("unreadable", text, file.name, fails=True),), False))
        else:
            parsed.append(parse_exports(file.raw, file.name))
    return parsed


def _own_file(snapshot: Snapshot, name: str) -> FileText | None:
    return next((file for file in snapshot.files if file.name == name), None)


Clients = tuple[tuple[str, ExportOptions], ...]
Lines = list[tuple[str, Clients]]


def _wanted_lines(desired: Desired, own: ParsedFile, facts: Facts) -> Lines:
    """The lines of the new drop-in: the wanted exports, then what else stays of the old one."""
    lines: Lines = [(export.path, export.clients) for export in desired.exports]
    if desired.purge:
        return lines
    settled = {facts.real(export.path) for export in desired.exports} | {facts.real(p) for p in desired.withdrawn}
    kept: dict[str, list[tuple[str, ExportOptions]]] = {}
    for entry in own.entries:
        if facts.real(entry.path) not in settled:
            kept.setdefault(entry.path, []).append((entry.client or "*", entry.options))
    return lines + [(path, tuple(clients)) for path, clients in kept.items()]


def _same_content(entries: Sequence[Entry], other: Sequence[Entry], facts: Facts) -> bool:
    """Whether two drop-ins mean the same, whatever their notation."""
    rest = list(other)
    for entry in entries:
        match = next(
            (
                candidate
                for candidate in rest
                if facts.real(candidate.path) == facts.real(entry.path)
                and same_client(candidate.client, entry.client, facts.hosts)
                and same_options(candidate.options, entry.options)
            ),
            None,
        )
        if match is None:
            return False
        rest.remove(match)
    return not rest


def plan_exports(desired: Desired, snapshot: Snapshot, *, check_mode: bool = False) -> Plan:
    """The plan. Raises Refused, with every reason in ``details['refusals']``."""
    facts = snapshot.facts
    files = parse_files(snapshot)
    own_file = _own_file(snapshot, desired.file)
    before = None if own_file is None else own_file.raw
    own = next((file for file in files if file.name == desired.file), ParsedFile(desired.file))
    owed = parse_owed(before or b"", desired.file)
    lines = _wanted_lines(desired, own, facts)
    after = render_drop_in(desired.name, lines) if lines else None
    new_own = parse_exports(after or b"", desired.file)
    sound = own.complete and not owed and not any(problem.fails or problem.loses for problem in own.problems)
    # A file that is handed over gets the header even when it says all that is wanted: the next run asks for it.
    sound = sound and not is_others(own_file)
    if before is not None and after is not None and sound and _same_content(own.entries, new_own.entries, facts):
        after, new_own = before, own
    new_files = _with_own(files, new_own, remove=after is None)
    table = build_table(new_files, facts)
    known = parse_table(snapshot.etab or b"")
    about = {facts.real(path) for path in paths_about(desired, own.entries, owed)}
    orphans = _orphans(about, known, new_files, table, facts)
    withdrawn = _withdrawn([*own.entries, *orphans], table, facts)
    refusals = refuse_others(own_file, desired)
    refusals += refuse_lines(new_own, len(lines), sum(len(clients) for _path, clients in lines))
    refusals += refuse_foreign(new_own, new_files, facts)
    refusals += [p.describe() for p in table.problems if p.code == "fsid_twice" and _touches(p, desired.file, table)]
    # Two of our own paths that are one directory; pairs with other files are named above.
    refusals += [
        problem.describe()
        for problem in table.problems
        if problem.code in ("duplicate", "conflict") and problem.file == desired.file
        if f"{desired.file}:" in problem.text
    ]
    for export in desired.exports:
        refusals += refuse_path(export, snapshot)
        refusals += refuse_clients(export, desired, facts)
    if not desired.withdraw_in_use:
        refusals += refuse_in_use([*own.entries, *orphans], new_own.entries, snapshot)
    if not snapshot.has_exportfs and not check_mode and not _is_idle_withdrawal(desired, snapshot):
        refusals.append("exportfs is not installed; install nfs-kernel-server (Debian) or nfs-utils (RedHat)")
    if refusals:
        raise _refused(desired, refusals)
    kept = {facts.real(entry.path) for entry in new_own.entries}
    were = dict.fromkeys([*(entry.path for entry in own.entries), *owed])
    lost = [path for path in were if facts.real(path) not in kept]
    steps = _plan_steps(desired, snapshot, (before, after), lost, withdrawn, _rows_of(table, desired.file), known)
    return Plan(
        steps=tuple(steps),
        expected=_rows_of(table, desired.file),
        withdrawn=withdrawn,
        warnings=tuple(_warnings(desired, snapshot, table, own, new_own)),
        foreign=tuple(p for p in table.problems if p.file != desired.file and (p.fails or p.loses)),
        hosts=facts.hosts,
        diff=tuple(_diff(desired, snapshot, before, after, steps)),
    )


def _is_idle_withdrawal(desired: Desired, snapshot: Snapshot) -> bool:
    """Whether exports are only taken back on a machine that serves none: without exportfs files are all there is."""
    return not desired.exports and not snapshot.has_exportfs and not snapshot.running


def _refused(desired: Desired, refusals: Sequence[str]) -> Refused:
    reason = "; ".join(dict.fromkeys(refusals))
    return Refused(
        f"exports of {desired.file}",
        reason,
        way_out="nothing was changed",
        details={"refusals": list(dict.fromkeys(refusals))},
    )


def _with_own(files: Sequence[ParsedFile], own: ParsedFile, *, remove: bool) -> list[ParsedFile]:
    """The files with ours in its new form, in reading order."""
    others = {file.name: file for file in files if file.name != own.name}
    if not remove:
        others[own.name] = own
    start = len(EXPORTS_FOLDER) + 1
    drop_ins = {name[start:]: name for name in others if name.startswith(EXPORTS_FOLDER + "/")}
    order = [name for name in others if name not in drop_ins.values()]
    order += [drop_ins[short] for short in reading_order(drop_ins)]
    return [others[name] for name in order]


def _rows_of(table: Table, file: str) -> tuple[Row, ...]:
    return tuple(row for row in table.rows if row.entry.file == file)


def _touches(problem: Problem, file: str, table: Table) -> bool:
    """Whether one of the two exports that share an identity is ours."""
    if problem.file == file:
        return True
    ours = {row.entry.options.identity for row in _rows_of(table, file)}
    return any(
        row.entry.file == problem.file and row.entry.line == problem.line and row.entry.options.identity in ours
        for row in table.rows
    )


def _plan_steps(
    desired: Desired,
    snapshot: Snapshot,
    texts: tuple[bytes | None, bytes | None],
    lost: Sequence[str],
    withdrawn: Sequence[tuple[str, str]],
    ours: Sequence[Row],
    known: Sequence[Entry],
) -> list[Step]:
    """The steps in their order.

    ``texts`` are the drop-in before and after, ``lost`` the paths that go out of it, ``known`` the export table.
    """
    before, after = texts
    is_idle = _is_idle_withdrawal(desired, snapshot)
    steps: list[Step] = []
    last: list[Step] = []
    for export in desired.exports:
        steps += _plan_directory(export, snapshot)
    if before is not None and lost and not is_idle:
        # A run that dies before exportfs leaves the paths behind, by which the next one knows what to look for.
        marked = render_owed(after or render_drop_in(desired.name, ()), lost)
        if marked != before:
            steps.append(MarkWithdrawn(desired.file, before, marked))
        last.append(RemoveDropIn(desired.file, marked) if after is None else WriteDropIn(desired.file, marked, after))
    elif after is not None and after != before:
        if not snapshot.has_folder:
            steps.append(MakeFolder(EXPORTS_FOLDER))
        steps.append(WriteDropIn(desired.file, before, after))
    elif after is None and before is not None:
        steps.append(RemoveDropIn(desired.file, before))
    reason = ""
    if after != before:
        reason = "the drop-in is removed" if after is None else "the drop-in changes"
    else:
        reason = "; ".join(differences(ours, withdrawn, known, snapshot.facts.hosts)[:1])
    if reason and not is_idle:
        steps.append(Reexport(reason))
    steps += last
    names = _unknown_names(ours, known, snapshot) if snapshot.running else ()
    if names:
        steps.append(FlushCaches(names))
    return steps


def _unknown_names(ours: Sequence[Row], known: Sequence[Entry], snapshot: Snapshot) -> tuple[str, ...]:
    """Client names that the kernel does not know connected machines by.

    A machine that is connected is known by the names that matched when it connected; an export for another name is
    refused to it with ENOENT for up to half an hour, and exportfs does not help (case rp-nfs-01). That is so for each
    name that is new in the table, for what a killed run still owes, and for `stale_names`. Only the killed run can know
    it surely: exportfs empties the table of known addresses, and a connection keeps its names all the same (measured
    with nfs-utils 3.1 and Linux 7.2).
    """
    table_names = {(entry.client or "*").casefold() for entry in known}
    names = {row.client for row in ours if row.client.casefold() not in table_names}
    stale = stale_names(ours, known, snapshot.known_addresses, snapshot.facts.hosts)
    return tuple(sorted(names.union(snapshot.owed_flush, stale)))


def stale_names(
    rows: Sequence[Row],
    known: Sequence[Entry],
    known_addresses: Mapping[str, frozenset[str]],
    hosts: Mapping[str, Host | None],
) -> tuple[str, ...]:
    """Networks and machines of the export table that let in an address which the kernel knows without them, sorted.

    rpc.mountd compares names as texts: a machine that is known by its address is not known by its host name.
    """
    names: set[str] = set()
    for row in rows:
        entry = _find(row, known, hosts)
        if entry is None or row.kind not in (ClientKind.NETWORK, ClientKind.ANYBODY, ClientKind.HOST):
            continue
        name = entry.client or "*"
        for address, cached in known_addresses.items():
            is_covered = not uncovered([address], [row.client, row.entry.client or "*"], hosts)
            if is_covered and name.casefold() not in {one.casefold() for one in cached}:
                names.add(name)
    return tuple(sorted(names))


def differences(
    expected: Sequence[Row],
    withdrawn: Sequence[tuple[str, str]],
    known: Sequence[Entry],
    hosts: Mapping[str, Host | None],
) -> list[str]:
    """How the export table differs from what our file says, each difference a sentence."""
    found = []
    for row in expected:
        match = _find(row, known, hosts)
        pair = f"{printable(row.path)} for {printable(row.client)}"
        if match is None:
            found.append(f"{pair} is not in the export table")
        elif not same_options(match.options, row.entry.options):
            words = ",".join(render_table_options(match.options))
            found.append(f"{pair} has other options in the export table: {words}")
    for path, client in withdrawn:
        if any(entry.path == path and same_client(entry.client or "*", client, hosts) for entry in known):
            found.append(f"{printable(path)} for {printable(client)} is still in the export table")
    return found


def _find(row: Row, known: Sequence[Entry], hosts: Mapping[str, Host | None]) -> Entry | None:
    return next(
        (
            entry
            for entry in known
            if entry.path == row.path
            and (
                same_client(entry.client or "*", row.client, hosts)
                or same_client(entry.client or "*", row.entry.client or "*", hosts)
            )
        ),
        None,
    )


def paths_about(desired: Desired, own: Sequence[Entry], owed: Sequence[str]) -> list[str]:
    """The paths that a call is about: those it names, those of the drop-in, those that a killed run withdrew."""
    named = [export.path for export in desired.exports]
    return [*named, *desired.withdrawn, *(entry.path for entry in own), *owed]


def _orphans(
    paths: set[str], known: Sequence[Entry], files: Sequence[ParsedFile], table: Table, facts: Facts
) -> tuple[Entry, ...]:
    """Entries of the export table for our paths that no file names any more.

    A run that was killed between writing and exporting leaves them; the drop-in does not tell of them any more. Other
    paths are none of our business: somebody may export them by hand.
    """
    found = []
    for entry in known:
        client = entry.client or "*"
        words = [word for file in files for word in _clients_of(file, entry.path, facts)]
        if entry.path not in paths or any(same_client(word, client, facts.hosts) for word in words):
            continue
        # A name that does not resolve at present may be any machine.
        unknown = any(word in facts.hosts and facts.hosts[word] is None for word in words)
        if not (unknown and classify(client) is ClientKind.HOST) and not _is_named(entry.path, client, table, facts):
            found.append(entry)
    return tuple(found)


def _clients_of(file: ParsedFile, path: str, facts: Facts) -> list[str]:
    return [entry.client or "*" for entry in file.entries if facts.real(entry.path) == path]


def _is_named(path: str, client: str, table: Table, facts: Facts) -> bool:
    """Whether the files give a row for the pair, in whatever notation."""
    return any(
        row.path == path
        and (same_client(row.client, client, facts.hosts) or same_client(row.entry.client or "*", client, facts.hosts))
        for row in table.rows
    )


def _withdrawn(entries: Sequence[Entry], table: Table, facts: Facts) -> tuple[tuple[str, str], ...]:
    """Pairs of the old drop-in, and of the export table, that no file names any more."""
    pairs = dict.fromkeys((facts.real(entry.path), entry.client or "*") for entry in entries)
    return tuple((path, client) for path, client in pairs if not _is_named(path, client, table, facts))


def _plan_directory(export: DesiredExport, snapshot: Snapshot) -> list[Step]:
    """Make the directory, or set its owner, group and mode; never anything inside it."""
    fact = snapshot.facts.paths.get(export.path)
    if fact is None:
        return []
    uid = None if export.owner is None else snapshot.users.get(export.owner)
    gid = None if export.group is None else snapshot.groups.get(export.group)
    if fact.kind == "missing":
        return [MakeDirectory(export.path, uid, gid, DEFAULT_MODE if export.mode is None else export.mode)]
    new_uid = uid if uid is not None and uid != fact.uid else None
    new_gid = gid if gid is not None and gid != fact.gid else None
    new_mode = export.mode if export.mode is not None and export.mode != fact.mode else None
    if (new_uid, new_gid, new_mode) == (None, None, None):
        return []
    return [SetOwnership(export.path, new_uid, new_gid, new_mode, render_ownership(fact.uid, fact.gid, fact.mode))]


def _warnings(desired: Desired, snapshot: Snapshot, table: Table, own: ParsedFile, new_own: ParsedFile) -> list[str]:
    """Remarks on what is ours, and on foreign lines that export to the world by a slip."""
    warnings = list(desired.notes)
    for problem in table.problems:
        slip = problem.code in ("blank_before_options", "no_client")
        if (problem.file == desired.file or slip) and not problem.fails:
            warnings.append(problem.describe() if problem.file != desired.file else problem.text)
    for export in desired.exports:
        fact = snapshot.facts.paths.get(export.path)
        if fact is not None:
            warnings += _path_warnings(export, fact)
        warnings += _owner_warnings(export, fact)
    warnings += warn_machines(desired, snapshot.facts)
    if not own.complete:
        warnings.append(f"{desired.file} was broken by hand and is written anew")
    if not snapshot.has_exportfs and desired.exports:
        warnings.append("exportfs is not installed yet")
    if new_own.entries and not snapshot.running:
        warnings.append("the kernel's NFS server does not run; nothing is served yet")
    warnings += [text for _code, text in review_versions(snapshot.versions)]
    return list(dict.fromkeys(warnings))


def _path_warnings(export: DesiredExport, fact: PathFact) -> list[str]:
    shown = printable(export.path)
    if fact.fstype in ("tmpfs", "ramfs"):
        return [f"{shown} is on {fact.fstype}: its data are gone when the server restarts"]
    if fact.kind != "missing" and fact.real != export.path:
        return [f"{shown} is a symbolic link or goes through one; clients have to mount {printable(fact.real)}"]
    return []


def _owner_warnings(export: DesiredExport, fact: PathFact | None) -> list[str]:
    """All requests act as one user that does not own the directory: every write would be refused."""
    if fact is None or fact.kind != "directory" or export.owner is not None or fact.uid is None:
        return []
    for client, options in export.clients:
        squashed = all(access.all_squash for _name, access in options.flavours)
        if squashed and options.writable and options.anonuid != fact.uid:
            return [
                f"{printable(export.path)} belongs to {fact.uid}, but requests of {client} act as {options.anonuid}"
            ]
    return []


def _diff(
    desired: Desired, snapshot: Snapshot, before: bytes | None, after: bytes | None, steps: Sequence[Step]
) -> list[Mapping[str, str]]:
    """Ansible's diffs: the drop-in as text, and each directory that changes."""
    found: list[Mapping[str, str]] = []
    for step in steps:
        if isinstance(step, (MakeDirectory, SetOwnership)):
            fact = snapshot.facts.paths[step.path]
            was = "missing" if fact.kind == "missing" else render_ownership(fact.uid, fact.gid, fact.mode)
            mode = step.mode if step.mode is not None else fact.mode
            uid = step.uid if step.uid is not None else fact.uid
            gid = step.gid if step.gid is not None else fact.gid
            if isinstance(step, MakeDirectory):
                uid, gid = step.uid or 0, step.gid or 0
            shown = printable(step.path)
            found.append(
                {
                    "before_header": shown,
                    "after_header": shown,
                    "before": f"{was}\n",
                    "after": f"{render_ownership(uid, gid, mode)}\n",
                }
            )
    if before != after:
        found.append(
            {
                "before_header": desired.file,
                "after_header": desired.file,
                "before": printable_text(before),
                "after": printable_text(after),
            }
        )
    return found


def printable_text(raw: bytes | None) -> str:
    """A file for a diff; bytes that are no UTF-8 as escapes."""
    return "" if raw is None else decode(raw).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
