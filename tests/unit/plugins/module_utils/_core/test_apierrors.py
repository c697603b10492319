# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.apierrors import Call, error_of


def answer(
    code: int, verb: str = "create", kind: kinds.Kind = kinds.PERSISTENT_VOLUME_CLAIM, **status: Any
) -> errors.ApiError:
    call = Call(verb, kind, "db-mysql-0", "shop" if kind.namespaced else None)
    return error_of(call, code, json.dumps({"kind": "Status", **status}).encode(), "https://api:6443", "option host")


def test_rp_ans_10_names_verb_resource_and_user() -> None:
    message = (
        'persistentvolumes is forbidden: User "system:serviceaccount:shop:deployer" cannot list resource '
        '"persistentvolumes" in API group "" at the cluster scope'
    )
    problem = answer(403, "list", kinds.PERSISTENT_VOLUME, reason="Forbidden", message=message)
    assert isinstance(problem, errors.Forbidden)
    assert problem.missing == {
        "verb": "list",
        "resource": "persistentvolumes",
        "group": "",
        "user": "system:serviceaccount:shop:deployer",
    }
    assert "may not list persistentvolumes cluster-wide" in str(problem)


def test_an_apply_needs_the_verb_patch() -> None:
    problem = answer(403, "apply", kinds.STATEFUL_SET, reason="Forbidden", message="")
    assert isinstance(problem, errors.Forbidden)
    assert problem.missing["verb"] == "patch"
    assert problem.missing["group"] == "apps"
    assert problem.missing["namespace"] == "shop"


@pytest.mark.parametrize(
    "message",
    [
        'persistentvolumeclaims "x" is forbidden: exceeded quota: small, requested: requests.storage=1Gi',
        'admission webhook "policy.example" denied the request: no',
    ],
)
def test_a_quota_is_no_missing_permission(message: str) -> None:
    problem = answer(403, reason="Forbidden", message=message)
    assert isinstance(problem, errors.AdmissionRefused)
    assert message in str(problem)


def test_rp_ans_06_a_terminating_namespace_is_named() -> None:
    message = "x is forbidden: unable to create new content in namespace shop because it is being terminated"
    causes = [{"reason": "NamespaceTerminating", "message": "namespace shop is being terminated"}]
    problem = answer(403, reason="Forbidden", message=message, details={"causes": causes})
    assert isinstance(problem, errors.NamespaceTerminating)
    assert "Namespace shop" in str(problem)


def test_rp_ans_07_a_missing_namespace_is_named() -> None:
    problem = answer(404, reason="NotFound", message='namespaces "shop" not found', details={"kind": "namespaces"})
    assert isinstance(problem, errors.NamespaceMissing)
    assert "Namespace shop" in str(problem)


def test_rp_ans_04_each_409_is_what_it_is() -> None:
    assert isinstance(answer(409, reason="AlreadyExists", message="x"), errors.AlreadyExists)
    assert isinstance(answer(409, "update", reason="Conflict", message="x"), errors.Conflict)
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-edit" using v1', "field": ".spec.x"}
    ]
    problem = answer(409, "apply", reason="Conflict", details={"causes": causes})
    assert isinstance(problem, errors.FieldConflict)
    assert problem.managers == {"kubectl-edit": [".spec.x"]}
    assert "kubectl-edit owns .spec.x" in str(problem)


def test_rp_ans_04_a_422_names_object_field_and_message() -> None:
    causes = [{"field": "spec.resources", "message": "Forbidden: field can not be less"}]
    problem = answer(422, "patch", reason="Invalid", message="long", details={"causes": causes})
    assert isinstance(problem, errors.Invalid)
    assert problem.fields == {"spec.resources": "Forbidden: field can not be less"}
    assert "PersistentVolumeClaim shop/db-mysql-0" in str(problem)
    assert "spec.resources" in str(problem)


def test_rp_ans_03_the_refusal_of_a_secret_does_not_quote_it() -> None:
    causes = [{"field": "data[x]", "message": 'Invalid value: "hunter2"'}]
    problem = answer(422, "create", kinds.SECRET, reason="Invalid", message="hunter2", details={"causes": causes})
    assert "data[x]" in str(problem)
    assert "hunter2" not in str(problem) + str(problem.details)
    assert "hunter2" not in str(answer(422, "create", kinds.SECRET, reason="Invalid", message="hunter2"))


def test_a_page_of_a_proxy_is_shown_in_part() -> None:
    problem = error_of(Call("get", kinds.POD, "x", "y"), 502, b"<html>Bad Gateway" + b"x" * 999, "https://api", "z")
    assert "<html>Bad Gateway" in str(problem)
    assert len(str(problem)) < 500


def test_a_redirect_names_where_the_address_comes_from() -> None:
    problem = error_of(Call("get", kinds.POD, "x", "y"), 302, b"", "https://api", "option host", "https://login")
    assert "https://login" in str(problem)
    assert "option host" in str(problem)


def test_401_names_the_source() -> None:
    problem = answer(401)
    assert isinstance(problem, errors.Unauthorized)
    assert "option host" in str(problem)
