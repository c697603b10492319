# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on real mysqlds and a real API server: what they do, tell and keep to themselves."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import errors
from ansible_collections.stateful.petset.plugins.module_utils._core.kubeconfig import resolve_settings
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, PetState, Ring, RingPet
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import HttpTransport, find_connection
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import Pets, port_forward_connector
from ansible_collections.stateful.petset.plugins.module_utils._ring import run_mysql_ring, run_mysql_ring_info
from ansible_collections.stateful.petset.plugins.modules import mysql_ring, mysql_ring_info
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked

from tests.api.cluster import Cluster
from tests.api.conftest import no_plugin
from tests.api.mysqlds import ADMIN_PASSWORD, REPLICATION_PASSWORD, Rig, running_rig
from tests.api.portforward import PortForwarder
from tests.hidden import find_hidden

# The library leaves its WebSocket open when the other side ends first.
pytestmark = [
    pytest.mark.api,
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TOKEN = "token-of-a-deployer"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running_rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def forwarder(rig: Rig) -> Iterator[PortForwarder]:
    for ordinal in (0, 1):
        rig.add(ordinal)
    forwarder = PortForwarder({pet.name: pet.admin_port for pet in rig.pets}, TOKEN)
    yield forwarder
    forwarder.close()
    gc.collect()


def forwarding_client(forwarder: PortForwarder, token: str = TOKEN) -> KubeClient:
    """A client whose only server is the forwarder."""
    settings = resolve_settings({"host": forwarder.host, "api_key": token}, {})
    transport = HttpTransport(
        find_connection(settings, {}), run_command=no_plugin, register_secret=lambda _secret: None
    )
    return KubeClient(transport)


def by_forward(rig: Rig, forwarder: PortForwarder, token: str = TOKEN, host: str = "localhost") -> Pets:
    ring = rig.ring()
    named = replace(ring, pets=tuple(replace(pet, host=host) for pet in ring.pets))
    ca = (rig.folder / "tls/ca.crt").read_text()
    return Pets(named, port_forward_connector(forwarding_client(forwarder, token), "default", ca, ADMIN_PASSWORD))


def test_the_port_forward_carries_tls_to_the_pet(rig: Rig, forwarder: PortForwarder) -> None:
    pets = by_forward(rig, forwarder)
    for _look in range(3):
        states = pets.observe()
        assert all(isinstance(state, PetState) for state in states.values()), states
    pets.close()
    # Whoever carries it sees nothing: neither the account nor a statement.
    carried = b"".join(forwarder.seen)
    assert b"petset_admin" not in carried
    assert b"SELECT" not in carried


def test_what_goes_wrong_on_the_way_has_a_name(rig: Rig, forwarder: PortForwarder) -> None:
    def kinds(pets: Pets) -> list[str]:
        states = pets.observe()
        pets.close()
        return [state.kind if isinstance(state, Down) else "up" for state in states.values()]

    assert kinds(by_forward(rig, forwarder, token="other")) == ["forbidden", "forbidden"]
    assert kinds(by_forward(rig, forwarder, host="elsewhere.example.com")) == ["tls", "tls"]
    rig.pets[1].stop()
    assert kinds(by_forward(rig, forwarder)) == ["up", "not_listening"]
    del forwarder.pods["mysql-1"]
    assert kinds(by_forward(rig, forwarder)) == ["up", "no_pod"]


class Site:
    """The modules in a namespace whose pets are the rig's."""

    def __init__(self, api: Cluster, client: KubeClient, namespace: str, rig: Rig) -> None:
        self.api, self.client, self.namespace, self.rig = api, client, namespace, rig
        self.module = FakeModule({}, False, True)

    def prepare(self) -> None:
        def encoded(**values: str) -> dict[str, str]:
            return {name.replace("_", "-"): base64.b64encode(text.encode()).decode() for name, text in values.items()}

        passwords = encoded(admin_password=ADMIN_PASSWORD, replication_password=REPLICATION_PASSWORD)
        ca = base64.b64encode((self.rig.folder / "tls/ca.crt").read_bytes()).decode()
        root = f"/api/v1/namespaces/{self.namespace}/secrets"
        self.api.request("POST", root, {"metadata": {"name": "mysql-secret"}, "data": passwords})
        self.api.request("POST", root, {"metadata": {"name": "mysql-tls"}, "data": {"ca.crt": ca}})
        self.scale(2)

    def scale(self, count: int) -> None:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets"
        labels = {"a": "b"}
        spec: dict[str, Any] = {
            "serviceName": "db",
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "a", "image": "a"}]},
            },
        }
        self.api.request("POST", path, {"metadata": {"name": "mysql"}, "spec": spec})

    def adapt(self, ring: Ring) -> Ring:
        local = self.rig.ring()
        return replace(ring, pets=local.pets, ca_path=local.ca_path)

    def run(self, *, check: bool = False, info: bool = False, **options: Any) -> Mapping[str, Any]:
        spec = (mysql_ring_info if info else mysql_ring).argument_spec()
        given = {"set": "mysql", "namespace": self.namespace, **options}
        if not info:
            given = {"wait": False, **given}
        self.module = FakeModule(checked(spec, given), check, True)
        run = run_mysql_ring_info if info else run_mysql_ring
        return run(self.module, self.client, {"changed": False}, lambda *_args: self.rig.connector(), self.adapt)

    def lease(self) -> Any:
        return self.api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/mysql")

    def hold(self, pet: str | None) -> None:
        """What the agents do: the Lease gets a holder, which opens itself, with semi-sync on both."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/mysql"
        body = {
            "spec": {"holderIdentity": pet},
            "metadata": {"annotations": {"stateful.petset/in-sync": "mysql-0,mysql-1"}},
        }
        self.api.request("PATCH", path, body, "application/merge-patch+json")


@pytest.fixture
def site(api: Cluster, client: KubeClient, namespace: str, rig: Rig) -> Site:
    for ordinal in (0, 1):
        rig.add(ordinal)
    return Site(api, client, namespace, rig)


def test_the_way_of_a_ring(site: Site) -> None:
    told: list[Any] = []
    empty = site.run(check=True)
    assert empty["changed"]
    assert "cannot be known yet" in empty["notes"][0]
    with pytest.raises(errors.NotFound):
        site.run()
    assert site.run(info=True)["exists"] is False
    site.prepare()
    position = site.api.audit_position()
    predicted = site.run(check=True)
    assert site.api.audited_writes(position) == []
    done = site.run()
    assert done["actions"] == predicted["actions"]
    assert done["diff"] == predicted["diff"]
    assert [entry["before_header"] for entry in done["diff"]][:2] == [
        "channel ring of mysql-0",
        "channel ring of mysql-1",
    ]
    assert done["changed"]
    lease = site.lease()
    assert lease["metadata"]["annotations"] == {
        "stateful.petset/in-sync": "mysql-0",
        "stateful.petset/mode": "single_writer",
    }
    assert "holderIdentity" not in lease["spec"]
    for check in (False, True):
        again = site.run(check=check)
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
    assert done["judgement"]["word"] == "degraded"

    # Nobody plays the agents, so nobody opens: the wait says so.
    with pytest.raises(errors.TimedOut) as problem:
        site.run(wait=True, wait_timeout=2)
    assert "no pet holds the Lease" in problem.value.reason
    assert len(problem.value.details["pets"]) == 2
    zero, one = site.rig.pets
    one.sql("SET GLOBAL rpl_semi_sync_replica_enabled = ON", "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD")
    zero.sql("SET GLOBAL rpl_semi_sync_source_enabled = ON", "SET GLOBAL super_read_only = OFF")
    zero.sql("SET GLOBAL read_only = OFF")
    site.hold("mysql-0")
    before = len(site.client.requests)
    healthy = site.run(wait=True, wait_timeout=30)
    assert len(site.client.requests) - before <= 8
    assert (healthy["judgement"]["word"], healthy["writer"], healthy["changed"]) == ("healthy", "mysql-0", False)
    before = len(site.client.requests)
    site.run(wait=True)
    assert len(site.client.requests) - before == 4
    seen = site.run(info=True)
    assert seen["judgement"]["word"] == "healthy"
    assert "replication: healthy" in seen["table"]
    assert site.run(mode="spread")["actions"] == [f"change Lease {site.namespace}/mysql (mode single_writer -> spread)"]
    one.stop()
    down = site.run(info=True)
    assert down["judgement"]["word"] == "uncertain"
    assert "mysql-1" in down["judgement"]["uncertain"][0]
    told += [empty, predicted, done, again, healthy, seen, down, problem.value.details, problem.value.render()]
    texts = {"results": json.dumps(told, default=str), "logged": "\n".join(site.module.logged)}
    assert find_hidden({"admin": ADMIN_PASSWORD, "replication": REPLICATION_PASSWORD}, texts) == []
    assert {ADMIN_PASSWORD, REPLICATION_PASSWORD} <= site.module.no_log_values


def test_rows_are_compared_when_it_is_asked_for(site: Site) -> None:
    site.prepare()
    site.run(mode="spread")
    zero, one = site.rig.pets
    for pet in (zero, one):
        pet.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    zero.sql("CREATE DATABASE d", "CREATE TABLE d.stock (item INT PRIMARY KEY)")
    plain = site.run(info=True, mode="spread")
    assert "comparison" not in plain
    assert any("was not asked for" in note for note in plain["judgement"]["notes"])
    result = site.run(info=True, mode="spread", compare=True)
    assert result["comparison"] == {"tables": 1, "different": [], "not_compared": []}
    one.sql("SET sql_log_bin = 0", "INSERT INTO d.stock VALUES (3)")
    result = site.run(info=True, mode="spread", compare=True)
    text = "table d.stock differs between mysql-0 and mysql-1 in 1 row, by primary key: 3"
    assert result["judgement"]["word"] == "broken"
    assert text in result["judgement"]["certain"]
    assert f"  certain: {text}" in result["table"]
    assert result["comparison"]["different"][0]["pets"] == [["mysql-0"], ["mysql-1"]]
    one.stop()
    result = site.run(info=True, mode="spread", compare=True)
    assert "rows were not compared: fewer than two pets answer" in result["judgement"]["uncertain"]


def test_a_secret_that_cannot_be_is_refused(site: Site) -> None:
    site.prepare()
    path = f"/api/v1/namespaces/{site.namespace}/secrets/mysql-secret"
    long = base64.b64encode(("x" * 33).encode()).decode()
    site.api.request("PATCH", path, {"data": {"replication-password": long}}, "application/merge-patch+json")
    with pytest.raises(errors.InvalidInput, match="33 bytes"):
        site.run()
    site.api.request("PATCH", path, {"data": {"replication-password": None}}, "application/merge-patch+json")
    with pytest.raises(errors.NotFound, match="replication-password"):
        site.run()
    assert site.run(info=True)["judgement"]["word"] == "uncertain"


def test_pets_have_their_names(site: Site) -> None:
    site.prepare()
    seen: list[RingPet] = []

    def adapt(ring: Ring) -> Ring:
        seen.extend(ring.pets)
        return site.adapt(ring)

    site.module = FakeModule(
        checked(mysql_ring_info.argument_spec(), {"set": "mysql", "namespace": site.namespace}), False, False
    )
    run_mysql_ring_info(site.module, site.client, {}, lambda *_args: site.rig.connector(), adapt)
    assert [pet.host for pet in seen] == [f"mysql-{n}.db.{site.namespace}.svc.cluster.local" for n in (0, 1)]
    assert {pet.port for pet in seen} == {3306}
