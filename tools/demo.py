# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make demo` shows: the site playbook twice on the lab, the second time without a change, the status, and a row
that is written through HAProxy and read from every pet.

Usage: python3 -m tools.demo
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tools import recap
from tools.common import ROOT, VENV, Failed, environment, say
from tools.stages import INSTALLED

# The lab's image, and sizes that fit its nodes.
VARIABLES = ROOT / "lab" / "site.yml"
NAMESPACE = "demo"
PETS = ("mysql-0", "mysql-1")


def parse_recap(text: str) -> dict[str, int]:
    """How many tasks changed something on each host, out of what a playbook printed; empty without a recap."""
    return {host: counts["changed"] for host, counts in recap.parse_recap(text).items() if "changed" in counts}


def play(name: str) -> str:
    """Run a playbook of the built collection inside the lab, shown live; what it printed. Raises Failed."""
    begin = time.monotonic()
    words = ["-e", f"@{VARIABLES.relative_to(ROOT)}", f"stateful.petset.{name}"]
    argv = [sys.executable, "-m", "lab", "run", "--", str(VENV / "bin" / "ansible-playbook"), *words]
    say(f"$ ansible-playbook {' '.join(words)}")
    printed = []
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment(ANSIBLE_COLLECTIONS_PATH=str(INSTALLED), ANSIBLE_CALLBACK_RESULT_FORMAT="yaml"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        for line in child.stdout or ():
            printed.append(line)
            say(line.rstrip("\n"))
    if child.returncode != 0:
        raise Failed(f"the playbook {name} failed: exit status {child.returncode}")
    say(f"== {name}: {time.monotonic() - begin:.1f} s")
    return "".join(printed)


def get(kind: str, name: str, namespace: str, lab: str) -> dict[str, Any]:
    """An object of the demo's namespace. Raises Failed."""
    argv = [sys.executable, "-m", "lab", "kubectl", "--name", lab, "--", "-n", namespace, "get", kind, name]
    done = subprocess.run(
        [*argv, "-o", "json"], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise Failed(f"{kind} {name}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(namespace: str = NAMESPACE, lab: str = "lab") -> str:
    """Write a row through HAProxy, read it from every pet, all inside the lab's network. Raises Failed."""

    def look(kind: str, name: str) -> dict[str, Any]:
        return get(kind, name, namespace, lab)

    settings = parse_settings(
        look("secret", "mysql-secret"),
        look("secret", "mysql-tls"),
        look("service", "mysql-proxy"),
        {name: look("pod", name) for name in PETS},
    )
    argv = [sys.executable, "-m", "lab", "run", "--name", lab, "--"]
    argv += [str(VENV / "bin" / "python"), "-m", "tools.demo", "row"]
    # The password goes by standard input, where no list of processes shows it.
    done = subprocess.run(argv, cwd=ROOT, input=json.dumps(settings), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"a row through HAProxy: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout.strip()


def parse_settings(
    passwords: Mapping[str, Any],
    tls: Mapping[str, Any],
    proxy: Mapping[str, Any],
    pods: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What ``write_and_read`` needs, out of the objects as Kubernetes has them."""
    return {
        "proxy": proxy["spec"]["clusterIP"],
        "pets": {name: pod["status"]["podIP"] for name, pod in pods.items()},
        **{key: base64.b64decode(passwords["data"][f"app-{key}"]).decode() for key in ("user", "password", "database")},
        "ca": base64.b64decode(tls["data"]["ca.crt"]).decode(),
    }


def connect(settings: Mapping[str, Any], host: str) -> Any:
    """A connection as the demo's account."""
    import ssl

    import pymysql

    context = ssl.create_default_context(cadata=settings["ca"])
    context.check_hostname = False  # clients come by the address of the service
    return pymysql.connect(
        host=host, user=settings["user"], password=settings["password"], database=settings["database"],
        ssl=context, connect_timeout=5, read_timeout=10, autocommit=True,
    )  # fmt: skip


def write_and_read(settings: Mapping[str, Any]) -> str:
    """What runs inside the lab's network: which pet took the row, and what each pet has of it. Raises Failed."""
    text = time.strftime("written at %H:%M:%S through HAProxy", time.gmtime())
    with connect(settings, settings["proxy"]) as proxy, proxy.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS demo (id BIGINT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(80))")
        cursor.execute("INSERT INTO demo (text) VALUES (%s)", (text,))
        number = cursor.lastrowid
        cursor.execute("SELECT @@report_host")
        lines = [f"row {number} ({text}) was taken by {cursor.fetchone()[0].partition('.')[0]}"]
    begin = time.monotonic()
    for name, address in settings["pets"].items():
        with connect(settings, address) as pet, pet.cursor() as cursor:
            while not cursor.execute("SELECT text FROM demo WHERE id = %s", (number,)):
                if time.monotonic() - begin > 10:
                    raise Failed(f"{name} does not have row {number} after 10 s")
                time.sleep(0.05)
            lines.append(f"{name} has it: {cursor.fetchone()[0]}")
    return "\n".join(lines)


def main() -> int:
    """Play it; the exit status says whether it went as told."""
    try:
        play("site")
        changed = parse_recap(play("site"))
        if not changed or any(changed.values()):
            raise Failed(f"the second run should change nothing on any host, but: {changed or 'no recap was printed'}")
        say("== the second run changed nothing")
        play("status")
        say("== a row through HAProxy")
        say(row())
    except Failed as failure:
        say(f"demo: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["row"]:
        say(write_and_read(json.load(sys.stdin)))
        sys.exit(0)
    sys.exit(main())
