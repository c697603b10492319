#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_export
short_description: Export directories of a Linux NFS server
version_added: 0.1.0
description:
  - Manages one drop-in file under C(/etc/exports.d) with all exports of one set, makes the directories when asked,
    and applies the change with C(exportfs -ra).
  - Reads every file that C(exportfs) reads, by the grammar that C(exportfs) really has, and changes none but its own.
  - The exit status of C(exportfs) misleads both ways. The module reads what C(exportfs) says and the export table that
    it leaves; when its own exports are not in the table as they were meant, the old file is put back and exported
    again, and the words of C(exportfs) are in the error.
  - A run that was killed before C(exportfs -ra) is caught up with. Rows of the export table for the paths in
    O(exports) and in the drop-in that no file names any more are withdrawn; rows of other paths are left alone. A path
    that goes out of the drop-in stays in it as a comment until C(exportfs) has run.
  - A file of that name that the collection did not write, which is one without its header, is refused in check mode
    too, and is neither changed nor removed; see O(adopt).
  - Never restarts the NFS server, and never changes or deletes anything inside an exported directory.
  - Runs on the NFS server, as root.
options:
  name:
    description:
      - Name of the set of exports. The file is C(/etc/exports.d/<name>.exports).
      - Letters, digits, V(-), V(_) and V(.). C(exportfs) silently skips files with other suffixes and dot files.
    type: str
    required: true
  state:
    description:
      - V(present) makes the drop-in hold the given exports.
      - V(absent) withdraws the paths in O(exports), or the whole drop-in when O(exports) is not given. The directories
        and their data stay.
        Where C(exportfs) is not installed and no server runs, there is nothing to withdraw but the text of the drop-in.
    type: str
    choices: [present, absent]
    default: present
  exports:
    description: The exported directories.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - Absolute path of the directory. V(..), control characters and blanks at the end are refused; other blanks
            are fine.
        type: str
        required: true
      state:
        description: V(absent) withdraws this path; its data stay.
        type: str
        choices: [present, absent]
        default: present
      clients:
        description:
          - Who may mount the directory. Needed for V(state=present).
          - Use the same clients for all exports of a set. A machine that is connected under other client names than a
            new export needs the caches of the kernel flushed, which the module does.
        type: list
        elements: dict
        suboptions:
          client:
            description:
              - A host name that the server can resolve, an address, a network such as V(192.0.2.0/24) or
                V(2001:db8::/64), a pattern of host names such as V(*.example.org), V(@netgroup), or V(*) for everybody.
              - Networks are written in their plain form; brackets around an IPv6 address are taken away.
            type: str
            required: true
          options:
            description:
              - Options of C(exports(5\)) for this client, instead of O(exports[].options).
            type: list
            elements: str
      options:
        description:
          - Options of C(exports(5\)) for clients that have none of their own, one word an element.
          - What is not given has the default of C(exportfs), V(ro), V(sync), V(root_squash), V(no_subtree_check).
          - Warned about, not refused are V(no_root_squash), V(async), V(insecure), V(pnfs) and exports to everybody.
        type: list
        elements: str
        default: []
      fsid:
        description:
          - The identity of the export, by which clients know its files. It must not change while clients have it
            mounted, and no other export of the server may have it.
          - V(auto) derives a UUID from O(exports[].fsid_seed) or else from the path.
          - V(none) leaves it to the file system. Else a UUID, a number below 2**32, or V(root).
        type: str
        default: auto
      fsid_seed:
        description:
          - Text that V(fsid=auto) derives the identity from, for example V(default/mysql/0) for a pet. The same seed
            gives the same identity on every server and for every path.
        type: str
      create:
        description: Whether a missing directory is made, with its parents.
        type: bool
        default: false
      owner:
        description: Name or number of the user that the directory belongs to. What is inside is left alone.
        type: str
      group:
        description: Name or number of the group of the directory. What is inside is left alone.
        type: str
      mode:
        description:
          - Mode of the directory as octal digits in quotes, for example V('0750'). A number without quotes is refused,
            since YAML may have read it as octal or not.
        type: raw
  purge:
    description: Whether paths that are in the drop-in and not in O(exports) are withdrawn.
    type: bool
    default: true
  machines:
    description:
      - Machines that must be let in by each export, for example the nodes of a cluster. The module refuses when some
        address of theirs is covered by no client, as for an IPv6 address with IPv4 clients only.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name for messages.
        type: str
        required: true
      addresses:
        description: All addresses that the machine may come from.
        type: list
        elements: str
        required: true
      required:
        description:
          - Whether the module refuses when an address is covered by no client. Otherwise it warns, and says nothing of
            exports that have a pattern of host names or a netgroup among their clients.
        type: bool
        default: true
  withdraw_in_use:
    description:
      - Whether an export may be withdrawn or made read-only for a client that holds files open in it. That client gets
        C(Stale file handle) at once, and its pet has to be started again.
    type: bool
    default: false
  adopt:
    description:
      - Whether a file of that name that was not made by this collection is handed over to it. Otherwise it is refused
        by name; an empty one is not.
      - Its lines are then treated as those of an own drop-in. With O(purge) the exports that are not wanted are
        withdrawn, and so are all of them with V(state=absent); comments go in any case.
    type: bool
    default: false
  foreign_errors:
    description:
      - What to do when C(exportfs) complains about lines of other files. The own exports are applied in any case.
      - With such an error C(exportfs) ends with status 1, and the NFS service may not start at the next boot; so the
        default is to fail after the change.
    type: str
    choices: [fail, warn]
    default: fail
  describe_server:
    description:
      - Whether the result also tells of the server and its clients, as M(stateful.petset.nfs_export_info) does; that
        saves a call of it.
    type: bool
    default: false
notes:
  - Compares what exports mean, so that another notation of a path, a network or an option is no change.
  - Check mode also works on a server where the packages are not installed yet.
extends_documentation_fragment:
  - stateful.petset.attributes
seealso:
  - module: stateful.petset.nfs_export_info
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Export a directory for each of two pets
  stateful.petset.nfs_export:
    name: default-mysql
    exports:
      - path: /srv/petset/default/mysql/0
        fsid_seed: default/mysql/0
        create: true
        owner: "999"
        group: "999"
        mode: "0750"
        clients:
          - client: 192.0.2.0/24
        options: [rw, all_squash, anonuid=999, anongid=999]
      - path: /srv/petset/default/mysql/1
        fsid_seed: default/mysql/1
        create: true
        owner: "999"
        group: "999"
        mode: "0750"
        clients:
          - client: 192.0.2.0/24
        options: [rw, all_squash, anonuid=999, anongid=999]
    machines:
      - name: node-1
        addresses: [192.0.2.11]

- name: Different options for two clients, both address families
  stateful.petset.nfs_export:
    name: reports
    exports:
      - path: /srv/reports
        clients:
          - client: 192.0.2.0/24
            options: [ro]
          - client: 2001:db8::10
            options: [rw, root_squash]

- name: Withdraw one directory, keep its data
  stateful.petset.nfs_export:
    name: default-mysql
    state: absent
    exports:
      - path: /srv/petset/default/mysql/1

- name: Withdraw all exports of the set, keep the data
  stateful.petset.nfs_export:
    name: default-mysql
    state: absent
"""

RETURN = r"""
file:
  description: Path of the drop-in file.
  returned: always
  type: str
  sample: /etc/exports.d/default-mysql.exports
plan:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["write /etc/exports.d/default-mysql.exports", "run exportfs -ra: the drop-in changes"]
exports:
  description: The rows of the export table that come from the drop-in.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The real path, with symbolic links resolved.
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
foreign_problems:
  description: What is wrong in files that are not ours, so that C(exportfs) fails or an export is lost.
  returned: always
  type: list
  elements: str
server:
  description:
    - The server of the kernel after the run, with the keys of RV(stateful.petset.nfs_export_info#module:server).
  returned: with O(describe_server)
  type: dict
clients:
  description:
    - The connected NFSv4 clients after the run, with the keys of RV(stateful.petset.nfs_export_info#module:clients).
  returned: with O(describe_server)
  type: list
  elements: dict
exportfs:
  description: What C(exportfs -ra) answered.
  returned: when it was run
  type: dict
  contains:
    rc:
      description: Its exit status, which alone means little.
      type: int
    stderr:
      description: What it said.
      type: str
refusals:
  description: All reasons for which nothing was done.
  returned: when the plan was refused
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import PetsetError
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import printable
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import Desired, parse_desired
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_plan import Plan, plan_exports
from ansible_collections.stateful.petset.plugins.module_utils._core.nfs_proc import describe_server
from ansible_collections.stateful.petset.plugins.module_utils._io.nfs import Module, NfsServer, Outcome, find_server

EXPORT_SPEC: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "clients": {
        "type": "list",
        "elements": "dict",
        "options": {
            "client": {"type": "str", "required": True},
            "options": {"type": "list", "elements": "str"},
        },
    },
    "options": {"type": "list", "elements": "str", "default": []},
    "fsid": {"type": "str", "default": "auto"},
    "fsid_seed": {"type": "str"},
    "create": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "exports": {"type": "list", "elements": "dict", "options": EXPORT_SPEC},
    "purge": {"type": "bool", "default": True},
    "machines": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "required": {"type": "bool", "default": True},
        },
    },
    "withdraw_in_use": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "foreign_errors": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
    "describe_server": {"type": "bool", "default": False},
}


def result_of(desired: Desired, plan: Plan, outcome: Outcome | None) -> dict[str, Any]:
    """The result of a plan, carried out or not."""
    foreign = [problem.describe() for problem in plan.foreign]
    result: dict[str, Any] = {
        "changed": plan.changed,
        "file": desired.file,
        "plan": [step.describe() for step in plan.steps],
        "diff": [dict(one) for one in plan.diff],
        "exports": [
            {
                "path": printable(row.path),
                "client": printable(row.client),
                "options": render_table_options(row.entry.options),
                "fsid": row.entry.options.uuid_text or row.entry.options.identity,
            }
            for row in plan.expected
        ],
        "foreign_problems": foreign,
    }
    if outcome is not None and outcome.status is not None:
        # What exportfs says of other files is mostly what we have found ourselves, with better line numbers.
        result["foreign_problems"] = foreign or outcome.foreign
        result["exportfs"] = {"rc": outcome.status, "stderr": outcome.stderr}
    return result


def run(module: Module, server: NfsServer) -> None:
    """Observe, plan, apply, report."""
    desired = parse_desired(module.params)
    plan = plan_exports(desired, server.observe(desired), check_mode=module.check_mode)
    outcome = None if module.check_mode or not plan.changed else server.apply(plan, desired)
    for text in [*plan.warnings, *(outcome.warnings if outcome is not None else ())]:
        module.warn(text)
    result = result_of(desired, plan, outcome)
    if module.params["describe_server"]:
        result.update(describe_server(server.observe_server()))
    if result["foreign_problems"] and module.params["foreign_errors"] == "fail":
        done = "would be applied" if module.check_mode else "are applied"
        module.fail_json(
            msg=f"The exports of {desired.file} {done}, but other files are broken, so that exportfs fails and the NFS "
            f"service may not start at boot: {'; '.join(result['foreign_problems'])}. Repair them, or set "
            "foreign_errors to warn.",
            **result,
        )
    for text in result["foreign_problems"]:
        module.warn(text)
    module.exit_json(**result)


def main() -> None:
    module: Any = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)  # type: ignore[no-untyped-call]
    try:
        run(module, find_server(module))
    except PetsetError as error:
        module.fail_json(msg=str(error), error=error.code, **error.details)
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the NFS server'}: {error.strerror or error}", error="os_error")


if __name__ == "__main__":
    main()
