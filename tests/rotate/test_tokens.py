"""Secrets that hold a token for ever are named like Pods, and given a new one where that is wanted."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from hardway.desired import Answer
from hardway.inventory import Host, load
from hardway.remote.cluster import Cluster
from hardway.rotate import asking, tokens
from tests.rotate.conftest import ROOT


def token(key: str) -> str:
    return f"{urlsafe_b64encode(json.dumps({'alg': 'ES256', 'kid': key}).encode()).decode().rstrip('=')}.body.signature"


def secret(name: str, content: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "ci", "name": name}, "data": {"token": b64encode(content.encode()).decode()}}


@dataclass
class Signs:
    """A cluster that signs by the newer of two keys; no Pod holds a token."""

    secrets: list[dict[str, Any]]
    inventory: Any = field(default_factory=lambda: load(ROOT / "inventory.yaml"))

    def run(self, host: Host, *argv: str) -> str:
        assert "worker" in host.roles
        assert tokens.HEADERS in argv
        return ""

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        assert (path, host) == (asking.TOKENS, None)
        return Answer(status=200, body=json.dumps({"items": self.secrets}).encode())

    def token(self, host: Host) -> str:
        assert "controller" in host.roles
        return token("new")

    def request(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        (there,) = (one for one in self.secrets if path == f"/api/v1/namespaces/ci/secrets/{one['metadata']['name']}")
        assert (method, body) == ("PATCH", {"data": {"token": None}})
        there["data"]["token"] = b64encode(token("new").encode()).decode()  # as the controller manager does
        return Answer(status=200, body=b"{}")


def test_a_secret_with_a_token_of_the_older_key_is_named_and_given_a_new_one() -> None:
    kinds = {"older": token("old"), "newer": token("new"), "nothing": "", "no-token": "words", "no-kid": "e30.body.signature"}
    signs = Signs([secret(*one) for one in kinds.items()])
    cluster, told = cast("Cluster", signs), list[str]()

    assert [one.where for one in tokens.old(cluster)] == ["Secret ci/no-kid", "Secret ci/older"]

    tokens.refresh(cluster, told.append)

    assert not list(tokens.old(cluster))
    assert [line.partition(":")[0] for line in told] == ["Secret ci/older", "Secret ci/no-kid"]
