# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of processes and pods."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.robustness.nemesis.base import Fault, Pick
from tests.robustness.workloads.append import TABLE
from tests.robustness.world import DATABASE

if TYPE_CHECKING:
    from tests.robustness.world import World


def pod_uid(pod: dict[str, Any] | None) -> str:
    """The pod's uid; empty without a pod."""
    return str(pod["metadata"]["uid"]) if pod else ""


def restarts_of(pod: dict[str, Any] | None) -> int:
    """How often the pod's mysqld was started again."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or []
    return sum(int(one.get("restartCount", 0)) for one in statuses if one["name"] == "mysqld")


class OnPods(Fault):
    """Remembers each aimed pod's uid, node and mysqld; whole again when all pods are Ready.

    kubelet needs a moment to see that a process is gone: until it has, Ready is a word of the past.
    """

    def setup(self, world: World, pick: Pick) -> None:
        """Before the blow."""
        self.uids: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        self.pids: dict[str, str] = {}
        self.restarts: dict[str, int] = {}
        for pet in pick.pets:
            pod = world.pod(pet)
            self.uids[pet] = pod_uid(pod)
            self.restarts[pet] = restarts_of(pod)
            self.nodes[pet] = world.node_of(pet)
            self.pids[pet] = world.mysqld_pid(pet, self.uids[pet], self.nodes[pet])
            if not self.pids[pet]:
                raise ValueError(f"{pet}: no mysqld found on {self.nodes[pet]}")

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """All of them Ready, and seen anew if their mysqld has ended."""
        return all(self._is_seen_anew(world, pet) and world.is_ready(pet) for pet in pick.pets)

    def _is_seen_anew(self, world: World, pet: str) -> bool:
        pod = world.pod(pet)
        if pod is None or pod_uid(pod) != self.uids[pet] or restarts_of(pod) > self.restarts[pet]:
            return True
        return not self.is_mysqld_gone(world, pet)

    def is_same_pod(self, world: World, pet: str) -> bool:
        """Whether the pod is the one from before and stays."""
        pod = world.pod(pet)
        return pod is not None and pod_uid(pod) == self.uids[pet] and not pod["metadata"].get("deletionTimestamp")

    def is_mysqld_gone(self, world: World, pet: str) -> bool:
        """Whether the process from before has ended."""
        name = f"/proc/{self.pids[pet]}"
        script = f"[ -d {name} ] && ! grep -q '^State:.Z' {name}/status && echo there; true"
        return world.ssh(self.nodes[pet], script, ok=False).out.strip() != "there"


class PodDelete(OnPods):
    """The pod is deleted as a user or a drain does it."""

    name = "pod-delete"

    def inject(self, world: World, pick: Pick) -> None:
        """All aimed pods in one request."""
        world.kubectl("delete", "pod", *pick.pets, "--wait=false")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """It leaves, or another has its name."""
        return not any(self.is_same_pod(world, pet) for pet in pick.pets)

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """New pods, Ready."""
        return not any(self.is_same_pod(world, pet) for pet in pick.pets) and super().is_recovered(world, pick)


class PodDeleteOther(PodDelete):
    """The same for the pet that does not write."""

    name = "pod-delete-other"
    aim = "other"


class BothPodsDelete(PodDelete):
    """Both pods at once."""

    name = "pods-delete-both"
    aim = "both"


class MysqldKill(OnPods):
    """mysqld gets SIGKILL; kubelet starts the container again."""

    name = "mysqld-kill"

    def inject(self, world: World, pick: Pick) -> None:
        """By pid, from the node."""
        for pet in pick.pets:
            world.ssh(self.nodes[pet], f"kill -KILL {self.pids[pet]}")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The process is gone."""
        return all(self.is_mysqld_gone(world, pet) for pet in pick.pets)


class MysqldKillOther(MysqldKill):
    """The pet that does not write."""

    name = "mysqld-kill-other"
    aim = "other"


class MysqldKillBehind(MysqldKill):
    """The writer's, while the other pet has received what clients write and applied none of it for a while: a row lock
    of somebody's session there holds its applier up. It must not be open before it has caught up, and its agent ends
    that session.
    """

    name = "mysqld-kill-behind"
    gap_limit_s = 8.0
    lag_s = 8.0
    lag_after_s = 30.0

    def inject(self, world: World, pick: Pick) -> None:
        """The lock first; the kill once there is something to catch up with."""
        other = next(pet for pet in world.place.pets if pet not in pick.pets)
        lock = f"BEGIN; SELECT COUNT(*) FROM {DATABASE}.{TABLE} FOR SHARE; DO SLEEP({self.lag_s + self.lag_after_s})"
        # Whether it held anything up is seen by what the pet lacks.
        threading.Thread(target=world.sql, args=(other, lock), kwargs={"ok": False}, daemon=True).start()
        time.sleep(self.lag_s)
        written = world.sql(pick.pet, "SELECT REPLACE(@@global.gtid_executed, '\\n', '')").strip()
        self.behind = world.sql(other, f"SELECT GTID_SUBTRACT('{written}', @@global.gtid_executed)").strip()
        super().inject(world, pick)

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The process is gone, and the other pet was behind."""
        return bool(self.behind) and super().is_effective(world, pick)


class BothKill(MysqldKill):
    """Both at once."""

    name = "mysqld-kill-both"
    aim = "both"


class ContainerKill(OnPods):
    """The container runtime kills the container's task."""

    name = "container-kill"

    def setup(self, world: World, pick: Pick) -> None:
        """Which container."""
        super().setup(world, pick)
        pod = world.pod(pick.pet) or {}
        found = [c for c in pod["status"]["containerStatuses"] if c["name"] == "mysqld"]
        self.container = str(found[0]["containerID"]).removeprefix("containerd://")

    def inject(self, world: World, pick: Pick) -> None:
        """By its id."""
        world.ssh(self.nodes[pick.pet], f"ctr -n k8s.io task kill -a -s SIGKILL {self.container}")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """Its mysqld is gone."""
        return self.is_mysqld_gone(world, pick.pet)


class MysqldStop(OnPods):
    """mysqld is frozen, its connections stay: nobody can tell it from a slow one."""

    name = "mysqld-sigstop"
    hold_s = 20.0

    def inject(self, world: World, pick: Pick) -> None:
        """SIGSTOP."""
        world.ssh(self.nodes[pick.pet], f"kill -STOP {self.pids[pick.pet]}")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The kernel says so, or somebody has killed it for being frozen."""
        script = f"grep -q '^State:.T' /proc/{self.pids[pick.pet]}/status && echo stopped; true"
        stopped = world.ssh(self.nodes[pick.pet], script, ok=False).out.strip() == "stopped"
        return stopped or self.is_mysqld_gone(world, pick.pet)

    def recover(self, world: World, pick: Pick) -> None:
        """SIGCONT, if it is still there."""
        world.ssh(self.nodes[pick.pet], f"kill -CONT {self.pids[pick.pet]} 2>/dev/null || true", ok=False)


class Noop(Fault):
    """Nothing is done: what the checkers say then is their own noise."""

    name = "noop"
    hold_s = 3.0

    def inject(self, world: World, pick: Pick) -> None:
        """Nothing."""

    def is_effective(self, world: World, pick: Pick) -> bool:
        """Always."""
        return True

    def recover(self, world: World, pick: Pick) -> None:
        """Nothing."""
