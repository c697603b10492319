# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import manifests
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ref_of
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import ClientService
from ansible_collections.stateful.petset.tests.unit.fakes.pets import BOOT_FILES, SPEC, spec_with


def rendered(kind: str, **changes: Any) -> dict[str, Any]:
    found = [one for one in manifests.render_objects(spec_with(**changes)) if one["kind"] == kind]
    assert found, f"no {kind}"
    return found[0]


def pod_of(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = rendered("StatefulSet", **changes)["spec"]["template"]["spec"]
    return spec


def test_every_object_has_a_name_of_its_own_and_says_whose_it_is() -> None:
    objects = manifests.render_objects(SPEC)
    assert len({ref_of(one) for one in objects}) == len(objects) == 8
    for one in objects:
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "stateful.petset"
        assert labels["stateful.petset/set"] == "mysql"


def test_rp_dns_01_the_governing_service_names_pets_that_are_not_ready_and_comes_first() -> None:
    objects = manifests.render_objects(SPEC)
    refs = [str(ref_of(one)) for one in objects]
    service = objects[refs.index("Service default/db")]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["name"] == "db"
    assert refs.index("Service default/db") < refs.index("StatefulSet default/mysql")
    assert objects[-1]["spec"]["serviceName"] == "db"


def test_the_claims_are_those_of_the_story() -> None:
    spec = rendered("StatefulSet")["spec"]
    (template,) = spec["volumeClaimTemplates"]
    assert template["metadata"] == {"name": "db"}
    assert (template["apiVersion"], template["kind"]) == ("v1", "PersistentVolumeClaim")
    assert template["spec"]["volumeMode"] == "Filesystem"
    assert template["spec"]["storageClassName"] == ""
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["podManagementPolicy"] == "Parallel"
    mounts = {one["mountPath"]: one["name"] for one in pod_of()["containers"][0]["volumeMounts"]}
    assert mounts["/var/lib/petset"] == "db"


def test_pods_comply_with_pod_security_restricted() -> None:
    # The rules of the standard, as its documentation lists them.
    pod = pod_of()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod["initContainers"]]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert security["privileged"] is False
    allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "csi"}
    for volume in pod["volumes"]:
        assert len(set(volume) - {"name"} & allowed) == 1
    for banned in ("hostNetwork", "hostPID", "hostIPC"):
        assert banned not in pod


def test_every_mount_has_its_volume() -> None:
    pod = pod_of()
    volumes = {one["name"] for one in pod["volumes"]} | {"db"}
    for container in [*pod["containers"], *pod["initContainers"]]:
        assert {one["name"] for one in container["volumeMounts"]} == volumes


def test_the_pet_needs_nothing_of_the_api() -> None:
    assert pod_of()["automountServiceAccountToken"] is False
    assert rendered("ServiceAccount")["automountServiceAccountToken"] is False
    assert rendered("Role")["rules"] == []
    assert pod_of()["enableServiceLinks"] is False


def test_a_lost_dns_answer_stalls_a_pet_one_second_not_five() -> None:
    pod = pod_of()
    assert "dnsPolicy" not in pod, "the options are added to those of ClusterFirst"
    assert {"name": "timeout", "value": "1"} in pod["dnsConfig"]["options"]


def test_probes_look_at_the_pet_only_and_outlast_a_lease() -> None:
    container = pod_of()["containers"][0]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 3600
    for name, what in (("startupProbe", "startup"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        assert container[name]["exec"]["command"] == ["/bin/sh", "/petset/boot/probe.sh", what]


def test_the_environment_of_the_start_up_program() -> None:
    env = {one["name"]: one for one in pod_of(env={"TZ": "UTC"})["containers"][0]["env"]}
    assert {name for name, one in env.items() if "value" in one} == {
        "PETSET_SET", "PETSET_SERVICE", "PETSET_DOMAIN", "PETSET_MASTERS", "PETSET_SERVER_ID_BASE",
        "PETSET_DURABILITY", "TZ",
    }  # fmt: skip
    path = env["PETSET_ORDINAL"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['apps.kubernetes.io/pod-index']"
    memory = env["PETSET_MEMORY_LIMIT_BYTES"]["valueFrom"]["resourceFieldRef"]
    assert memory == {"containerName": "mysqld", "resource": "limits.memory", "divisor": "1"}


def test_every_variable_that_the_start_up_program_reads_is_given_or_has_a_default() -> None:
    given = {one["name"] for one in pod_of()["containers"][0]["env"]}
    assert {"PETSET_NAMESPACE", "PETSET_POD", "PETSET_POD_UID", "PETSET_NODE"} <= given


def test_what_rolls_the_pets_and_what_does_not() -> None:
    base = manifests.config_hash(SPEC)
    assert manifests.config_hash(spec_with(user_config="[mysqld]\nmax_connections = 5\n")) != base
    assert manifests.config_hash(spec_with(boot_files={**BOOT_FILES, "start.sh": "other"})) != base
    for same in (
        {"known_pets": {0: "uuid"}},
        {"replicas": 3},
        {"secret_name": "other"},
        {"labels": {"team": "x"}},
        {"partition": 1},
    ):
        assert manifests.config_hash(spec_with(**same)) == base
    template = rendered("StatefulSet")["spec"]["template"]
    assert template["metadata"]["annotations"][manifests.ANNOTATION_CONFIG_HASH] == base
    assert rendered("StatefulSet", known_pets={0: "u"})["spec"]["template"] == template


def test_the_record_of_known_pets() -> None:
    text = manifests.render_known_pets({10: "b", 2: "a"})
    assert text == "2 a\n10 b\n"
    assert manifests.parse_known_pets(text + "# by hand\nx y\n\n") == {2: "a", 10: "b"}
    assert rendered("ConfigMap", known_pets={0: "u"})["data"]["known-pets"] == "0 u\n"


def test_the_clients_service() -> None:
    service = next(
        one
        for one in manifests.render_objects(
            spec_with(client_service=ClientService("sql", "LoadBalancer", 33060, 30306, {"a": "b"}, ("192.0.2.0/24",)))
        )
        if one["metadata"]["name"] == "sql"
    )
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert service["spec"]["ports"] == [
        {"name": "mysql", "port": 33060, "protocol": "TCP", "targetPort": "mysql", "nodePort": 30306}
    ]
    assert service["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert service["spec"]["publishNotReadyAddresses"] is False
    assert len(manifests.render_objects(spec_with(client_service=None))) == 7


def test_what_is_not_set_is_not_written() -> None:
    pod = pod_of(resources={})
    for name in ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert name not in pod
    assert "resources" not in pod["containers"][0]
    assert "fsGroup" not in pod["securityContext"]


def test_what_is_set_is_written() -> None:
    pod = pod_of(
        node_selector={"disk": "ssd"},
        tolerations=({"key": "db", "operator": "Exists"},),
        priority_class="high",
        image_pull_secrets=("reg",),
        fs_group=999,
    )
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "db", "operator": "Exists"}]
    assert pod["priorityClassName"] == "high"
    assert pod["imagePullSecrets"] == [{"name": "reg"}]
    assert pod["securityContext"]["fsGroup"] == 999


def test_pets_of_one_set_go_to_nodes_of_their_own_as_long_as_there_are_enough() -> None:
    """Two pets on one node are lost with it, but a pet beside another one is better than a pet that waits for ever."""
    pod, pets = pod_of(), {"matchLabels": {"stateful.petset/set": "mysql", "app.kubernetes.io/component": "pet"}}
    (wish,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert wish == {
        "weight": 100,
        "podAffinityTerm": {"labelSelector": pets, "topologyKey": "kubernetes.io/hostname"},
    }
    assert set(pod["affinity"]) == {"podAntiAffinity"}
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in pod["affinity"]["podAntiAffinity"]
    assert pod["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": pets,
        }
    ]


def test_a_pet_has_the_time_to_end_that_it_is_given() -> None:
    """InnoDB writes its pages before mysqld ends; Kubernetes' own 30 s would kill one that has a lot to write."""
    assert pod_of()["terminationGracePeriodSeconds"] == 300
    assert pod_of(termination_grace_s=60)["terminationGracePeriodSeconds"] == 60


def test_mysqld_has_the_resources_that_it_is_given() -> None:
    wanted = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}
    pod = pod_of(resources=wanted)
    (mysqld,) = pod["containers"]
    assert mysqld["resources"] == wanted
    # It runs before mysqld and initialises the data folder with the same program.
    (prepare,) = pod["initContainers"]
    assert prepare["resources"] == wanted
    assert pod_of(resources={"requests": {"cpu": "1"}, "limits": {}})["containers"][0]["resources"] == {
        "requests": {"cpu": "1"}
    }


def test_a_strategy_without_partition_has_none() -> None:
    assert rendered("StatefulSet", strategy="OnDelete")["spec"]["updateStrategy"] == {"type": "OnDelete"}
    rolling = rendered("StatefulSet", partition=1)["spec"]["updateStrategy"]
    assert rolling == {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}


def test_own_labels_win() -> None:
    labels = rendered("StatefulSet", pod_labels={"app.kubernetes.io/component": "x"})["spec"]["template"]["metadata"][
        "labels"
    ]
    assert labels["app.kubernetes.io/component"] == "pet"


def test_selectors_find_pets_only() -> None:
    wanted = {"stateful.petset/set": "mysql", "app.kubernetes.io/component": "pet"}
    assert rendered("StatefulSet")["spec"]["selector"] == {"matchLabels": wanted}
    assert rendered("PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": wanted}
    template = rendered("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert wanted.items() <= template.items()


# What Kubernetes' own page on disruption budgets advises for a stateful application of several pods: a count that holds
# whatever the number of pets is. With one pet a drain is an outage that the user asked for; minAvailable 1 would refuse
# it for ever. The writer is no exception: a pet that is evicted hands its lease over as it ends.
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("masters", [1, 2])
def test_one_pet_at_a_time_is_drained_and_one_that_is_not_ready_holds_no_drain_up(replicas: int, masters: int) -> None:
    budget = rendered("PodDisruptionBudget", replicas=replicas, masters=masters)["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget, "the API server takes only one of them"
    # Else a pet that cannot start, of a set that has lost another one, keeps its node from being drained for ever, and
    # who is in a hurry deletes it by force: then two may have its volume. Its data is not in the pod.
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("value", ["p'a\"ss\\%$ wörd", "x", "ключ"])
def test_secrets_survive_their_way(value: str) -> None:
    secret = manifests.render_secret(SPEC, "mysql-secret", {"root-password": value}, {})
    import base64

    assert base64.b64decode(secret["data"]["root-password"]).decode() == value


def test_no_manifest_but_that_of_the_secret_has_a_password() -> None:
    assert "password" not in json.dumps(manifests.render_objects(SPEC)).replace("replication-password", "")
