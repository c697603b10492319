#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_export_info
short_description: Look at the exports and the clients of a Linux NFS server
version_added: 0.1.0
description:
  - Tells what is exported to whom and by which line of which file, what is wrong or unwise about it, who is connected,
    and how the server of the kernel is set up.
  - Reads files and C(/proc) only. Names of clients are looked up as C(exportfs) does.
  - Runs on the NFS server, as root.
options:
  name:
    description:
      - Tell only of the exports of this drop-in, C(/etc/exports.d/<name>.exports). Problems of all files are told.
    type: str
extends_documentation_fragment:
  - stateful.petset.attributes.info
seealso:
  - module: stateful.petset.nfs_export
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Look at the NFS server
  stateful.petset.nfs_export_info:
  register: nfs

- name: Fail when an export is open to everybody
  ansible.builtin.assert:
    that: nfs.problems | selectattr('code', 'equalto', 'world') | length == 0
    fail_msg: "{{ nfs.problems | map(attribute='text') | join('; ') }}"
"""

RETURN = r"""
exports:
  description: The rows of the export table that the files give, in the order of C(exportfs -s).
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The real path.
      type: str
    client:
      description: The client as C(exportfs) names it.
      type: str
    options:
      description: The effective options, in the words and order of C(exportfs -s).
      type: list
      elements: str
    fsid:
      description: The identity, empty when the file system gives it.
      type: str
    file:
      description: The file that exports it.
      type: str
    line:
      description: The line in that file.
      type: int
    in_table:
      description: Whether the export table has it like this.
      type: bool
    used:
      description: Whether the kernel has handed it out to a connected client.
      type: bool
problems:
  description: What is wrong or unwise.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: A stable word, for example V(world) or V(blank_before_options).
      type: str
    text:
      description: A sentence, beginning with file and line.
      type: str
    file:
      description: The file.
      type: str
    line:
      description: The line, 0 for a whole file.
      type: int
    fails:
      description: Whether C(exportfs) ends with status 1 for it, so that the service may not start at boot.
      type: bool
    loses:
      description: Whether an export that is written down does not exist for it.
      type: bool
skipped_files:
  description: Files in C(/etc/exports.d) that C(exportfs) does not read because of their name.
  returned: always
  type: list
  elements: str
differences:
  description: How the export table differs from the files; empty when C(exportfs -ra) would change nothing.
  returned: always
  type: list
  elements: str
server:
  description: The server of the kernel.
  returned: always
  type: dict
  contains:
    running:
      description: Whether it has threads.
      type: bool
    threads:
      description: How many.
      type: int
    versions:
      description: Which versions of NFS it serves.
      type: dict
    lease_s:
      description: How long a silent client keeps its locks, in seconds.
      type: int
    grace_s:
      description: How long after a start nobody can open files but those who had them open, in seconds.
      type: int
    package_version:
      description: The version of nfs-utils, empty when it does not tell.
      type: str
    listening:
      description: Whether something listens on TCP port 2049.
      type: bool
    enabled:
      description: Whether systemd starts C(nfs-server.service) at boot.
      type: bool
    settings:
      description: The text of C(/etc/nfs.conf.d/petset.conf), none when it is missing.
      type: str
    delegations:
      description:
        - Whether the server may hand out delegations (C(fs.leases-enable)); none when the kernel does not tell.
      type: bool
clients:
  description: The connected NFSv4 clients.
  returned: always
  type: list
  elements: dict
  contains:
    address:
      description: Where it comes from.
      type: str
    name:
      description: What it calls itself.
      type: str
    version:
      description: The version of NFS that it speaks.
      type: str
    status:
      description: V(confirmed), or V(courtesy) when it has been silent for longer than its lease.
      type: str
    renewed_s:
      description: Seconds since it was heard from.
      type: int
refused:
  description: Pairs of path and client names that clients asked for and that the kernel remembers as not exported.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    client:
      description: The names by which the kernel knows the client.
      type: str
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import PetsetError
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import (
    Entry,
    Problem,
    parse_table,
    printable,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import Desired, parse_name
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_plan import differences, parse_files
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import Row, Table, build_table
from ansible_collections.stateful.petset.plugins.module_utils._core.nfs_proc import describe_server, review_server
from ansible_collections.stateful.petset.plugins.module_utils._io.nfs import Module, NfsServer, find_server

ARGUMENT_SPEC: dict[str, Any] = {"name": {"type": "str"}}


def describe_row(row: Row, wrong: set[Row], used: set[tuple[str, str]]) -> dict[str, Any]:
    """One row of the result."""
    return {
        "path": printable(row.path),
        "client": printable(row.client),
        "options": render_table_options(row.entry.options),
        "fsid": row.entry.options.uuid_text or row.entry.options.identity,
        "file": row.entry.file,
        "line": row.entry.line,
        "in_table": row not in wrong,
        "used": (row.path, row.client) in used,
    }


def run(module: Module, server: NfsServer) -> None:
    """Look and report."""
    name = module.params["name"]
    only = None if name is None else Desired(parse_name(name)).file
    snapshot = server.observe(Desired(""))
    facts = server.observe_server()
    table = build_table(parse_files(snapshot), snapshot.facts)
    known = parse_table(snapshot.etab or b"")
    wrong = {row for row in table.rows if differences([row], [], known, snapshot.facts.hosts)}
    used = set(facts.kernel_table)
    problems = [*table.problems, *(Problem(code, text) for code, text in review_server(facts))]
    module.exit_json(
        changed=False,
        exports=[describe_row(row, wrong, used) for row in table.rows if only is None or row.entry.file == only],
        problems=[
            {
                "code": problem.code,
                "text": problem.describe(),
                "file": problem.file,
                "line": problem.line,
                "fails": problem.fails,
                "loses": problem.loses,
            }
            for problem in problems
        ],
        skipped_files=[printable(one) for one in server.observe_skipped()],
        differences=differences(table.rows, _strangers(table, known), known, snapshot.facts.hosts),
        refused=[{"path": printable(path), "client": printable(client)} for path, client in facts.refused],
        **describe_server(facts),
    )


def _strangers(table: Table, known: Sequence[Entry]) -> list[tuple[str, str]]:
    """Rows of the export table that no file gives, for example from `exportfs -o`."""
    ours = {(row.path, row.client) for row in table.rows}
    return [(entry.path, entry.client or "*") for entry in known if (entry.path, entry.client or "*") not in ours]


def main() -> None:
    module: Any = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)  # type: ignore[no-untyped-call]
    try:
        run(module, find_server(module))
    except PetsetError as error:
        module.fail_json(msg=str(error), error=error.code, **error.details)


if __name__ == "__main__":
    main()
