# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of machines, their clocks and networks, and of the control plane."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

from tests.robustness.nemesis.base import Fault, NotRecovered, Pick
from tests.robustness.nemesis.kill import OnPods
from tests.robustness.processes import stop_process

if TYPE_CHECKING:
    from tests.robustness.world import World


class NodeOff(OnPods):
    """The writer's node loses its power for 30 s."""

    name = "node-off-30s"
    hold_s = 30.0
    heal_limit_s = 240.0

    def inject(self, world: World, pick: Pick) -> None:
        """At once, nothing flushed."""
        world.lab("power-off", self.nodes[pick.pet])

    def is_effective(self, world: World, pick: Pick) -> bool:
        """It does not answer."""
        return world.ssh(self.nodes[pick.pet], "true", ok=False, limit_s=10).rc != 0

    def recover(self, world: World, pick: Pick) -> None:
        """Power is back."""
        world.lab("power-on", self.nodes[pick.pet])


class NodeOffLong(NodeOff):
    """For longer than all time-outs of cluster (pods of a dead node are deleted after 300 s), NFS and MySQL."""

    name = "node-off-long"
    hold_s = 400.0
    heal_limit_s = 300.0
    is_long = True


class NodePause(OnPods):
    """The writer's node freezes for 15 s and wakes up believing that no time has passed."""

    name = "node-pause"
    hold_s = 15.0

    def inject(self, world: World, pick: Pick) -> None:
        """All of it."""
        world.lab("pause", self.nodes[pick.pet])

    def is_effective(self, world: World, pick: Pick) -> bool:
        """It does not answer."""
        return world.ssh(self.nodes[pick.pet], "true", ok=False, limit_s=5).rc != 0

    def recover(self, world: World, pick: Pick) -> None:
        """It goes on."""
        world.lab("resume", self.nodes[pick.pet], ok=False)


class Cut(OnPods):
    """The writer's node is cut from some of the others. ``parties``: peer stands for the other pet's node."""

    hold_s = 20.0
    parties: tuple[str, ...] = ()
    probe = ""

    def _others(self, world: World, pick: Pick) -> list[str]:
        mine = self.nodes[pick.pet]
        peers = [world.node_of(pet) for pet in world.place.pets if pet != pick.pet] if "peer" in self.parties else []
        return [one for one in self.parties if one != "peer"] + [one for one in peers if one != mine]

    def setup(self, world: World, pick: Pick) -> None:
        """Who."""
        super().setup(world, pick)
        self.others = self._others(world, pick)

    def inject(self, world: World, pick: Pick) -> None:
        """Both ways."""
        for other in self.others:
            world.lab("cut", self.nodes[pick.pet], other)

    def is_effective(self, world: World, pick: Pick) -> bool:
        """Not one of them answers a ping from there."""
        tries = "; ".join(f"ping -c 1 -W 1 {other} >/dev/null 2>&1 && echo there" for other in self.others)
        return bool(self.others) and "there" not in world.ssh(self.nodes[pick.pet], f"{tries}; true", ok=False).out

    def recover(self, world: World, pick: Pick) -> None:
        """All cuts of that node."""
        world.lab("heal", self.nodes[pick.pet])


class CutApi(Cut):
    """From the API server alone: clients reach the writer, and it cannot renew."""

    name = "cut-api"
    parties = ("api",)


class CutPeer(Cut):
    """From the other pet alone."""

    name = "cut-peer"
    parties = ("peer",)


class CutAll(Cut):
    """From everybody."""

    name = "cut-all"
    parties = ("api", "gateway", "client", "nfs", "peer")


class CutApiAndPeer(Cut):
    """From the cluster and the peer; clients on the gateway still reach it: the classic two writers."""

    name = "cut-api-peer"
    parties = ("api", "peer")


class NfsRestart(Fault):
    """The NFS server restarts under writes: grace period, locks reclaimed."""

    name = "nfs-restart"

    def setup(self, world: World, pick: Pick) -> None:
        """Since when it runs."""
        self.since = self._since(world)

    def _since(self, world: World) -> str:
        return world.ssh(
            "nfs", "systemctl show -p ActiveEnterTimestampMonotonic --value nfs-server", ok=False
        ).out.strip()

    def inject(self, world: World, pick: Pick) -> None:
        """As an administrator does it."""
        world.ssh("nfs", "systemctl restart nfs-server", limit_s=180)

    def is_effective(self, world: World, pick: Pick) -> bool:
        """It was started anew."""
        return self._since(world) not in ("", "0", self.since)

    def recover(self, world: World, pick: Pick) -> None:
        """It runs."""
        world.ssh("nfs", "systemctl is-active -q nfs-server || systemctl start nfs-server", ok=False)

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """It serves."""
        return world.ssh("nfs", "systemctl is-active nfs-server", ok=False).out.strip() == "active"


class NfsAway(Fault):
    """The NFS machine is frozen for 60 s: hard mounts wait."""

    name = "nfs-away-60s"
    hold_s = 60.0
    heal_limit_s = 240.0

    def inject(self, world: World, pick: Pick) -> None:
        """The whole machine."""
        world.lab("pause", "nfs")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """It does not answer."""
        return world.ssh("nfs", "true", ok=False, limit_s=5).rc != 0

    def recover(self, world: World, pick: Pick) -> None:
        """It goes on."""
        world.lab("resume", "nfs", ok=False)

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """It answers."""
        return world.ssh("nfs", "true", ok=False, limit_s=5).rc == 0


class NfsAwayLong(NfsAway):
    """For longer than 10 minutes: TCP and kubelet have given up."""

    name = "nfs-away-11min"
    hold_s = 660.0
    heal_limit_s = 600.0
    is_long = True


class DiskFull(Fault):
    """The NFS server's disk is full for 15 s, then free again."""

    name = "disk-full"
    hold_s = 15.0

    def inject(self, world: World, pick: Pick) -> None:
        """To the last byte."""
        world.lab("disk-full", "nfs", "/srv")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """df says so."""
        out = world.ssh("nfs", "df --output=avail -B1M /srv | tail -n 1", ok=False).out.strip()
        return out.isdecimal() and int(out) < 8

    def recover(self, world: World, pick: Pick) -> None:
        """Free again."""
        world.lab("disk-free", "nfs", "/srv")

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """df says so."""
        return not self.is_effective(world, pick)


class PartStop(Fault):
    """A part of the control plane stops for a while."""

    part = ""
    hold_s = 20.0

    def inject(self, world: World, pick: Pick) -> None:
        """Stop."""
        world.lab("stop", self.part)

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The lab says so."""
        shown = json.loads(world.lab("status", "--json", ok=False).out or "{}")
        return any(p["name"] == self.part and p["process"] == "off" for p in shown.get("parts", ()))

    def recover(self, world: World, pick: Pick) -> None:
        """Start."""
        world.lab("start", self.part)

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """The lab says so."""
        return not self.is_effective(world, pick)


class CorednsStop(PartStop):
    """No names."""

    name = "coredns-stop"
    part = "coredns"


class ApiStop(PartStop):
    """No API for 60 s. MySQL and its clients must not notice."""

    name = "apiserver-stop-60s"
    part = "apiserver"
    hold_s = 60.0
    gap_limit_s = 10.0
    keeps_writer = True


class ClockShift(OnPods):
    """The clock of the writer's node jumps by 90 s and back after 10 s. Timers must not care."""

    name = "clock-shift"
    hold_s = 10.0

    def inject(self, world: World, pick: Pick) -> None:
        """Forwards."""
        world.lab("clock", self.nodes[pick.pet], "+90")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """Its clock is ahead of this host's."""
        out = world.ssh(self.nodes[pick.pet], "date +%s", ok=False).out.strip()
        return out.isdecimal() and int(out) - time.time() > 60

    def recover(self, world: World, pick: Pick) -> None:
        """Right again."""
        world.lab("clock", self.nodes[pick.pet], "0")


class NetSlow(OnPods):
    """The writer's node has 30 ms of delay each way and loses 3 % of its packets."""

    name = "net-slow"
    hold_s = 20.0

    def inject(self, world: World, pick: Pick) -> None:
        """Both ways."""
        world.lab("slow", self.nodes[pick.pet], "--delay", "30", "--loss", "3")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """A ping takes longer."""
        out = world.ssh(self.nodes[pick.pet], "ping -c 4 -i 0.2 -q nfs | tail -n 1", ok=False).out
        return "=" in out and float(out.split("=")[-1].split("/")[1]) > 40

    def recover(self, world: World, pick: Pick) -> None:
        """Quick again."""
        world.lab("slow", self.nodes[pick.pet], "--off")


class SiteWhileDown(OnPods):
    """All nodes lose their power, the playbook starts, and only then power comes back."""

    name = "site-while-down"
    aim = "both"
    hold_s = 15.0
    heal_limit_s = 300.0

    def inject(self, world: World, pick: Pick) -> None:
        """Power off, then site."""
        self.play: subprocess.Popen[str] | None = None
        self.status: int | None = None
        for node in sorted(set(self.nodes.values())):
            world.lab("power-off", node)
        self.play = world.start(*world.play_argv("site"))

    def is_effective(self, world: World, pick: Pick) -> bool:
        """No node answers."""
        return all(world.ssh(node, "true", ok=False, limit_s=5).rc != 0 for node in set(self.nodes.values()))

    def recover(self, world: World, pick: Pick) -> None:
        """Power is back; the playbook is waited for, as it was started under the fault."""
        for node in sorted(set(self.nodes.values())):
            world.lab("power-on", node)
        if self.play is not None:
            out, err = stop_process(self.play, 600)
            self.status = self.play.returncode
            world.say(f"site while down: exit status {self.status}\n{out[-3000:]}\n{err[-500:]}")
            self.play = None

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """The playbook that was started while nothing ran has come through. NotRecovered: it has failed."""
        if self.status:
            raise NotRecovered(f"the playbook that was started while nothing ran ended with status {self.status}")
        return self.status == 0
