# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of volumes and claims. Some must be refused: no pet may start on what is not its data."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from tests.robustness.nemesis.base import Pick
from tests.robustness.nemesis.kill import OnPods, pod_uid

if TYPE_CHECKING:
    from tests.robustness.world import World


def refusal(pod: dict[str, Any] | None) -> str:
    """Why the pet's own start-up refused, out of the pod's status: ``petset: refused: REASON: ...``; empty if not."""
    status = (pod or {}).get("status") or {}
    for one in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        for state in (one.get("state") or {}, one.get("lastState") or {}):
            message = str((state.get("terminated") or {}).get("message") or "")
            if "refused:" in message:
                return message.strip().splitlines()[-1]
    return ""


def cordon(world: World, verb: str) -> None:
    """``cordon`` or ``uncordon`` all nodes."""
    for machine in world.nodes():
        world.kubectl(verb, machine, ok=False)


class EmptyFolder(OnPods):
    """The pet's folder is moved away and an empty one exported in its place. It must not start, and not initialise."""

    name = "empty-folder"
    aim = "other"
    expect = "refuse"
    hold_s = 5.0
    effect_limit_s = 120.0

    def inject(self, world: World, pick: Pick) -> None:
        """As somebody who mounts the wrong disk while the pet is down."""
        folder = world.place.folder(pick.pet)
        self._while_down(
            world,
            pick.pet,
            f"[ -e {folder}.away ] || mv {folder} {folder}.away\nmkdir -p {folder}\n"
            f"chown --reference={folder}.away {folder}\nchmod --reference={folder}.away {folder}\nexportfs -f",
        )

    def _while_down(self, world: World, pet: str, script: str) -> str:
        """Run a script on the NFS server while no pod of the pet has its volume mounted. What it said."""
        try:
            cordon(world, "cordon")
            world.kubectl("delete", "pod", pet, "--wait=true", "--timeout=90s", limit_s=120)
            return world.ssh("nfs", script).out
        finally:
            cordon(world, "uncordon")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The new pod refuses, by the name of the reason."""
        pod = world.pod(pick.pet)
        self.said = refusal(pod) if pod_uid(pod) != self.uids[pick.pet] else ""
        return "known-pet-empty" in self.said

    def recover(self, world: World, pick: Pick) -> None:
        """The right folder again; whatever was put into the wrong one fails this, and is kept beside it."""
        folder = world.place.folder(pick.pet)
        if world.ssh("nfs", f"[ -e {folder}.away ]", ok=False).rc != 0:
            return
        script = f"ls -A {folder}\nmv {folder} {folder}.wrong-$(date +%s)\nmv {folder}.away {folder}\nexportfs -f"
        left = self._while_down(world, pick.pet, script).split()
        if set(left) - {".petset-lock"}:
            raise AssertionError(f"{pick.pet} wrote into an empty folder that is not its own: {left}")


class TwoMysqld(OnPods):
    """A second pod with the same claim and the same identity starts a mysqld. It must refuse, the first be unharmed."""

    name = "two-mysqld"
    aim = "other"
    expect = "refuse"
    effect_limit_s = 120.0
    twin = "twin"

    def inject(self, world: World, pick: Pick) -> None:
        """The pet's own pod, under another name."""
        pod = world.pod(pick.pet)
        if pod is None:
            raise ValueError(f"{pick.pet} is not there")
        world.kubectl("apply", "-f", "-", text=json.dumps(render_twin(pod, self.twin)))

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The twin says that the folder is locked."""
        return "locked" in refusal(world.pod(self.twin))

    def recover(self, world: World, pick: Pick) -> None:
        """It goes."""
        world.kubectl("delete", "pod", self.twin, "--ignore-not-found", "--grace-period=1", ok=False)

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """The first one is as it was: same pod, same process."""
        return (
            self.is_same_pod(world, pick.pet)
            and not self.is_mysqld_gone(world, pick.pet)
            and super().is_recovered(world, pick)
        )


def render_twin(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """A pod that is this pet in all but its name and labels, and waits for the lock for 3 s only. Pure."""
    spec = copy.deepcopy(pod["spec"])
    for key in ("nodeName", "hostname", "subdomain", "serviceAccount", "affinity", "topologySpreadConstraints"):
        spec.pop(key, None)
    spec["restartPolicy"] = "Never"
    spec["initContainers"] = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") != "Always"]
    spec["containers"] = [one for one in spec["containers"] if one["name"] == "mysqld"]
    for one in spec["containers"] + spec["initContainers"]:
        for probe in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            one.pop(probe, None)
        env = [e for e in one.get("env", []) if e["name"] not in ("PETSET_POD", "PETSET_LOCK_WAIT_S")]
        one["env"] = [
            {"name": "PETSET_POD", "value": pod["metadata"]["name"]},
            {"name": "PETSET_LOCK_WAIT_S", "value": "3"},
            *env,
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": pod["metadata"]["namespace"], "labels": {"app": "twin"}},
        "spec": spec,
    }


class ClaimLost(OnPods):
    """The claim is deleted while its pod is pending: the set makes a new claim, the volume is Released."""

    name = "claim-deleted-pending"
    aim = "other"
    expect = "site"

    def inject(self, world: World, pick: Pick) -> None:
        """No node takes pods; pod and claim go."""
        cordon(world, "cordon")
        world.kubectl("delete", "pod", pick.pet, "--wait=true", "--timeout=60s", ok=False, limit_s=90)
        world.kubectl("delete", "pvc", f"db-{pick.pet}", "--wait=false")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The volume has lost its claim."""
        claims = [one for one in self._volumes(world) if one["spec"]["claimRef"]["name"] == f"db-{pick.pet}"]
        return any(one["status"].get("phase") in ("Released", "Failed") for one in claims)

    def _volumes(self, world: World) -> list[dict[str, Any]]:
        volumes = world.get("pv") or {"items": []}
        return [
            one
            for one in volumes["items"]
            if (one["spec"].get("claimRef") or {}).get("namespace") == world.place.namespace
        ]

    def recover(self, world: World, pick: Pick) -> None:
        """Nodes take pods; claim and volume are the playbook's to mend."""
        cordon(world, "uncordon")

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """The nodes take pods; the rest is told by the set's own health."""
        return True


class VolumeReleased(ClaimLost):
    """The claim is deleted under a running pod and goes when the pod does."""

    name = "volume-released"

    def inject(self, world: World, pick: Pick) -> None:
        """Claim first, then the pod."""
        world.kubectl("delete", "pvc", f"db-{pick.pet}", "--wait=false")
        world.kubectl("delete", "pod", pick.pet, "--wait=false")

    def recover(self, world: World, pick: Pick) -> None:
        """The playbook's to mend."""
