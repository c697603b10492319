# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import options, pet_set_spec
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_set_spec import parse_passwords, parse_spec
from ansible_collections.stateful.petset.tests.unit.fakes.pets import AGENT_FILES, BOOT_FILES
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"


def inputs_of(case: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{case}.yml").read_text())["inputs"]
    return found


OPTIONS: dict[str, Any] = {
    "set": "mysql",
    "namespace": "default",
    "replicas": 2,
    "masters": 2,
    "image": "mysql:8.4",
    "image_pull_policy": "IfNotPresent",
    "image_pull_secrets": [],
    "boot_files": BOOT_FILES,
    "agent": {},
    "agent_files": AGENT_FILES,
    "service": "db",
    "client_service": {},
    "cluster_domain": "cluster.local",
    "claim_template": "db",
    "capacity": "10Gi",
    "storage_class": "",
    "access_mode": "ReadWriteOnce",
    "resources": {},
    "uid": 999,
    "gid": 999,
    "fs_group": None,
    "termination_grace": 300,
    "startup_timeout": 3600,
    "update_strategy": "RollingUpdate",
    "partition": 0,
    "min_ready": 0,
    "server_id_base": 1000,
    "durability": "full",
    "mysql_config": {},
    "passwords_secret": None,
    "tls_secret": None,
    "labels": {},
    "pod_labels": {},
    "pod_annotations": {},
    "env": {},
    "node_selector": {},
    "tolerations": [],
    "priority_class": None,
    "create_namespace": False,
    "namespace_labels": {},
}


def parsed(**changes: Any) -> Any:
    return parse_spec({**OPTIONS, **changes})


def test_the_defaults_are_those_of_the_story() -> None:
    spec = parsed()
    assert (spec.name, spec.namespace, spec.replicas, spec.service) == ("mysql", "default", 2, "db")
    assert spec.client_service.name == "mysql"
    assert spec.domain == "db.default.svc.cluster.local"
    assert (spec.secret, spec.tls_secret, spec.config_map) == ("mysql-secret", "mysql-tls", "mysql-boot")


@pytest.mark.parametrize("image", ["9.1", "9", "8.4.10", "True", "None", "", 9.1, None, "my image"])
def test_rp_ans_12_a_version_alone_is_no_image(image: Any) -> None:
    """YAML turns 9.10 into 9.1, and Ansible that into text: only the pull failed, when pets were rolled already."""
    with pytest.raises(InvalidInput, match="quoted") as problem:
        parsed(image=image)
    assert problem.value.subject == "image"


@pytest.mark.parametrize("image", ["mysql:9.10", "mysql", "127.0.0.1:5000/9.1", "r.example/9", "8x", "a@sha256:0"])
def test_images_that_are_taken(image: str) -> None:
    assert parsed(image=image).image == image


@pytest.mark.parametrize("case", inputs_of("rp-sts-03"), ids=lambda one: str(one["name_length"]))
def test_rp_sts_03_length_of_the_name(case: dict[str, Any]) -> None:
    name = "m" * case["name_length"]
    if case["ok"]:
        assert parsed(set=name).name == name
        return
    with pytest.raises(InvalidInput, match="at most 52 characters") as problem:
        parsed(set=name)
    assert name in str(problem.value)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"claim_template": "c" * 64}, "claim_template"),
        ({"service": "s" * 64}, "service"),
        ({"cluster_domain": ".".join(["d" * 60] * 4)}, "cluster_domain"),
    ],
)
def test_rp_sts_03_names_that_are_put_together(changes: dict[str, str], option: str) -> None:
    with pytest.raises(InvalidInput, match="at most") as problem:
        parsed(**changes)
    assert problem.value.subject == option


@pytest.mark.parametrize("case", inputs_of("rp-sts-04"), ids=lambda one: str(one["name"]))
def test_rp_sts_04_names(case: dict[str, Any]) -> None:
    # A set may begin with a digit; a service may not, so the clients' service then needs a name of its own.
    options = {"set": case["name"], "client_service": {"name": "clients"}}
    if case["ok"]:
        assert parsed(**options).name == case["name"]
        return
    with pytest.raises(InvalidInput) as problem:
        parsed(**options)
    assert problem.value.subject == "set"
    assert case["name"] in str(problem.value)


@pytest.mark.parametrize("service", ["my.db", "Db", "my_db", "-db", "1db", ""])
def test_rp_sts_04_names_of_services(service: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        parsed(service=service)
    assert problem.value.subject == "service"


STS_07 = {next(iter(one)): one for one in inputs_of("rp-sts-07")}


def test_rp_sts_07_what_is_turned_into_text_and_what_is_refused() -> None:
    spec = parsed(
        labels={"flag": STS_07["label"]["label"]},
        pod_annotations={"port": STS_07["annotation"]["annotation"]},
        env={"FLAG": True, "WORD": "yes"},
    )
    assert spec.labels == {"flag": "true"}
    assert spec.pod_annotations == {"port": "8181"}
    assert spec.env == {"FLAG": "true", "WORD": "yes"}
    with pytest.raises(InvalidInput, match="quote it") as problem:
        parsed(env={"MODE": STS_07["env"]["env"]})
    assert "env[MODE]" in str(problem.value)
    assert "493" in str(problem.value)
    with pytest.raises(InvalidInput, match="quote it"):
        parsed(pod_annotations={"version": 9.1})


@pytest.mark.parametrize("replicas", [0, -1, 1001, True])
def test_counts(replicas: Any) -> None:
    with pytest.raises(InvalidInput) as problem:
        parsed(replicas=replicas)
    assert problem.value.subject == "replicas"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("capacity", 8, "quote it"),
        ("capacity", "010", "leading zero"),
        ("capacity", "0x10", "hexadecimal"),
        ("capacity", "1GB", "not a quantity"),
        ("capacity", "10 Gi", "no blanks"),
        ("capacity", "0", "more than zero"),
        ("image", "", "not an image"),
        ("image", 8.4, "not an image"),
        ("image", "my sql:8", "not an image"),
        ("uid", 0, "from 1"),
        ("fs_group", 0, "from 1"),
        ("termination_grace", 0, "from 1"),
        ("startup_timeout", 5, "from 60"),
        ("partition", 3, "from 0 to 2"),
        ("masters", 0, "from 1"),
        ("server_id_base", 2**32 - 1, "from 1"),
        ("boot_files", None, "missing"),
        ("boot_files", {"start.sh": ""}, "missing"),
        ("boot_files", {**BOOT_FILES, "user.cnf": ""}, "start-up program"),
        ("boot_files", {**BOOT_FILES, "start.sh": 5}, "start-up program"),
        ("boot_files", {**BOOT_FILES, "start.sh": "x" * 600_000}, "too many bytes"),
        ("claim_template", "boot", "a volume of that name"),
        ("client_service", {"name": "db"}, "governing service"),
        ("client_service", {"node_port": 30000}, "NodePort"),
        ("client_service", {"type": "NodePort", "node_port": 0}, "from 1"),
        ("client_service", {"port": 70000}, "from 1"),
        ("client_service", {"type": "LoadBalancer", "source_ranges": ["192.0.2.1/24"]}, "network"),
        ("client_service", {"source_ranges": ["192.0.2.0/24"]}, "LoadBalancer"),
        ("resources", {"limits": {"memory": "1GB"}}, "no B"),
        ("resources", {"limits": {"memory": 8}}, "quote it"),
        ("resources", {"limits": {"cpu": "-1"}}, "less than nothing"),
        ("resources", {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}, "more than the limit 1Gi"),
        ("env", {"PETSET_SET": "x"}, "PETSET_"),
        ("env", {"1X": "x"}, "not a name"),
        ("tolerations", [{"taint": "x"}], "not a toleration"),
        ("tolerations", [{"key": "x", "tolerationSeconds": "soon"}], "no number"),
        ("labels", {"a b": "x"}, "label key"),
        ("labels", {"x": None}, "quote it"),
        ("mysql_config", {"server_id": 5}, "set by the collection"),
        ("storage_class", "Fast", "upper-case"),
        ("passwords_secret", "a/b", "not allowed"),
    ],
)
def test_bad_input_is_refused_by_name(option: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        parsed(**{option: value})
    assert option in problem.value.subject
    assert words in str(problem.value)


def test_a_partition_needs_its_strategy() -> None:
    with pytest.raises(InvalidInput, match="OnDelete has none"):
        parsed(partition=1, update_strategy="OnDelete")


def test_good_input() -> None:
    spec = parsed(
        capacity="10240Mi",
        resources={"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1024Mi"}},
        client_service={"type": "LoadBalancer", "source_ranges": ["2001:db8::/32"], "node_port": None, "port": 3307},
        tolerations=[{"key": "db", "value": True, "effect": "NoSchedule", "tolerationSeconds": "30"}],
        mysql_config={"max_connections": 400},
    )
    assert spec.size == "10Gi"
    assert spec.resources["requests"]["cpu"] == "1"
    assert spec.client_service.source_ranges == ("2001:db8::/32",)
    assert spec.tolerations[0] == {
        "key": "db", "value": "true", "effect": "NoSchedule", "tolerationSeconds": 30, "operator": "Equal",
    }  # fmt: skip
    assert "max_connections = 400" in spec.user_config
    assert parsed(client_service={"enabled": False}).client_service is None


# --- passwords ---


@pytest.mark.parametrize("password", ["p'a\"s\\s%$ w", "ключ-ю", " x ", "a" * 32, "#;!"])
def test_passwords_of_all_kinds(password: str) -> None:
    given, needed = parse_passwords(dict.fromkeys(pet_set_spec.PASSWORD_KEYS, password), None)
    assert set(given.values()) == {password}
    assert set(needed) == set(given)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (83, "not text"),
        ("", "empty"),
        ("a\nb", "line break"),
        ("a\tb", "control character"),
        ("\ud800", "Unicode"),
        ("x" * 256, "256 bytes, MySQL takes 255"),
    ],
)
def test_bad_passwords_are_refused_and_never_shown(value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        parse_passwords({"root": value}, None)
    assert problem.value.subject == "passwords.root"
    assert words in str(problem.value)
    assert problem.value.value is None


def test_the_limit_of_replication_passwords_is_in_bytes() -> None:
    assert parse_passwords({"replication": "ü" * 16}, None)
    with pytest.raises(InvalidInput, match="33 bytes, MySQL takes 32"):
        parse_passwords({"replication": "ü" * 16 + "x"}, None)


@given(st.text(min_size=1, max_size=40))
def test_no_refusal_of_a_password_shows_it(password: str) -> None:
    try:
        parse_passwords({"agent": password + "\n"}, None)
    except InvalidInput as problem:
        assert problem.value is None  # noqa: PT017


def test_the_account_of_an_application() -> None:
    given, needed = parse_passwords({}, {"user": "shop", "password": None, "database": None})
    assert given == {"app-user": "shop", "app-database": "shop"}
    assert set(needed) >= {"app-user", "app-password", "app-database", "root-password"}


@pytest.mark.parametrize(
    "app",
    [
        {"user": ""},
        {"user": "u" * 33},
        {"user": "root"},
        {"user": "petset_x"},
        {"user": "x", "database": "mysql"},
        {"user": "x", "database": "a\nb"},
        {"user": 5},
    ],
)
def test_bad_accounts(app: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as problem:
        parse_passwords({}, app)
    assert problem.value.subject.startswith("app.")


def test_objects_to_adopt() -> None:
    assert options.parse_adopt(["Service/db"]) == {"Service/db"}
    with pytest.raises(InvalidInput, match="Kind/name"):
        options.parse_adopt(["db"])


@pytest.mark.parametrize("case", inputs_of("rp-rep-03"), ids=lambda case: case["password"])
def test_rp_rep_03_passwords_for_replication_are_measured_in_bytes(case: dict[str, Any]) -> None:
    char, _times, count = case["password"].partition("*")
    password = char * int(count)
    if case["ok"]:
        assert parse_passwords({"replication": password}, None)[0] == {"replication-password": password}
        return
    with pytest.raises(InvalidInput, match="MySQL takes 32") as problem:
        parse_passwords({"replication": password}, None)
    assert password not in str(problem.value)
