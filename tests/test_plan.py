"""A plan: what differs, what restarts for it, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.serialization import Encoding

from hardway.components.kubelet import OWN
from hardway.desired import Blob, Content, File, Manifest, Part, Pickup, Secret, Text, Use
from hardway.inventory import Host
from hardway.observed import Facts, Observed, OnDisk, UnitState
from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request
from hardway.plan import Plan, compare, compare_object, diff, digest, document

HOST = Host(name="controller-1", address=IPv4Address("10.240.0.11"), roles=frozenset({"controller"}))
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=0, disk_free=1 << 40, memory=1 << 30)
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0)


def file(name: str, content: Content, pickup: Pickup = Pickup.RESTART, mode: int = 0o644) -> File[Content]:
    return File(path=PurePosixPath("/etc/x") / name, content=content, uses=(Use(reader="x.service", pickup=pickup),), mode=mode)


def part(*files: File[Content]) -> Part:
    return Part(component="x", unit="x.service", files=files)


def there(*files: File[Content]) -> Mapping[PurePosixPath, OnDisk]:
    return {f.path: OnDisk(sha256=digest(f.content), mode=f.mode, owner=f.owner) for f in files}


def observed(*files: File[Content], unit: UnitState | None = UP, owed: frozenset[str] = frozenset(), extra: str = "") -> Observed:
    managed = {f.path for f in files} | ({PurePosixPath(extra)} if extra else set())
    on_disk = {**there(*files), **({PurePosixPath(extra): OnDisk(sha256="e" * 64, mode=0o644, owner="root:root")} if extra else {})}
    return Observed(facts=FACTS, files=on_disk, units={"x.service": unit} if unit else {}, managed=frozenset(managed), owed=owed)


def does(plan: Plan) -> list[str]:
    return [f"{change.action} {change.what}" for change in plan.changes]


def der_of(pair: Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.DER)


CONFIG = file("config", Text("a: 1\n"))
LEAF = file("leaf.pem", Secret(b"key"), Pickup.WATCH, mode=0o640)


def test_a_host_that_is_as_wanted_has_an_empty_plan() -> None:
    assert does(compare(HOST, [part(CONFIG, LEAF)], observed(CONFIG, LEAF))) == []


def test_a_new_host_gets_every_file_and_its_unit_is_enabled_and_started() -> None:
    expected = ["create /etc/x/config", "create /etc/x/leaf.pem", "enable x.service", "start x.service"]

    assert expected == does(compare(HOST, [part(CONFIG, LEAF)], observed(unit=None)))


def test_only_a_file_that_is_read_at_start_restarts_its_unit() -> None:
    old = dataclasses.replace(CONFIG, content=Text("a: 0\n"))
    older = dataclasses.replace(LEAF, content=Secret(b"old"))

    assert does(compare(HOST, [part(CONFIG, LEAF)], observed(CONFIG, older))) == ["update /etc/x/leaf.pem"]
    assert does(compare(HOST, [part(CONFIG, LEAF)], observed(old, LEAF))) == ["update /etc/x/config", "restart x.service"]


def test_a_file_that_is_read_at_the_first_start_only_restarts_nothing() -> None:
    initial = file("initial", Text("new"), Pickup.ONCE)

    assert does(compare(HOST, [part(initial)], observed(dataclasses.replace(initial, content=Text("old"))))) == ["update /etc/x/initial"]


def test_a_file_that_is_read_at_reload_reloads_unless_a_restart_is_due() -> None:
    config = file("haproxy.cfg", Text("new"), Pickup.RELOAD)
    old = dataclasses.replace(config, content=Text("old"))
    older = dataclasses.replace(CONFIG, content=Text("older"))

    assert does(compare(HOST, [part(config)], observed(old)))[-1] == "reload x.service"
    assert does(compare(HOST, [part(config, CONFIG)], observed(old, older)))[-1] == "restart x.service"


def test_another_mode_or_owner_is_a_change() -> None:
    loose = dataclasses.replace(LEAF, mode=0o644)
    stranger = dataclasses.replace(LEAF, owner="nobody:nogroup")

    (change,) = compare(HOST, [part(LEAF)], observed(loose)).changes
    assert change.why == "its mode is 0644, wanted 0640"
    (change,) = compare(HOST, [part(LEAF)], observed(stranger)).changes
    assert change.why == "its owner is nobody:nogroup, wanted root:root"


def test_an_owed_restart_is_planned_although_no_file_differs() -> None:
    plan = compare(HOST, [part(CONFIG)], observed(CONFIG, owed=frozenset({"x.service"})))

    assert does(plan) == ["restart x.service"]


def test_a_failed_or_disabled_unit_is_put_right() -> None:
    failed = dataclasses.replace(UP, active="failed", enabled=False)

    assert does(compare(HOST, [part(CONFIG)], observed(CONFIG, unit=failed))) == ["enable x.service", "start x.service"]


def test_what_no_component_wants_any_more_goes() -> None:
    plan = compare(HOST, [part(CONFIG)], observed(CONFIG, extra="/etc/systemd/system/y.service"))

    assert does(plan) == ["stop y.service", "disable y.service", "delete /etc/systemd/system/y.service"]


def test_a_file_that_others_put_there_is_not_ours_to_delete() -> None:
    seen = dataclasses.replace(
        observed(CONFIG), files={**there(CONFIG), PurePosixPath("/etc/x/theirs"): OnDisk(sha256="f", mode=0, owner="a:a")}
    )

    assert does(compare(HOST, [part(CONFIG)], seen)) == []


def test_a_binary_is_compared_by_its_digest_and_travels_through_the_store() -> None:
    blob = Blob(sha256="1" * 64, size=3, local=Path("x"))
    plan = compare(HOST, [part(file("bin", blob))], observed())

    assert plan.blobs == (blob,)


def test_a_diff_shows_text_and_never_a_secret() -> None:
    plan = compare(HOST, [part(CONFIG, LEAF)], observed(dataclasses.replace(CONFIG, content=Text("a: 0\n"))))
    text, secret, *_ = plan.changes

    assert "-a: 0\n+a: 1" in diff(text, "a: 0\n")
    assert diff(secret, "old key") == ""


def test_a_unit_without_a_certificate_of_its_own_asks_for_one_at_a_restart() -> None:
    asks = dataclasses.replace(part(CONFIG), own=OWN)
    seen = observed(CONFIG)

    plan = compare(HOST, [asks], seen)
    assert does(plan) == ["bootstrap system:node:controller-1", "restart x.service"]
    assert plan.changes[0].document == {
        "component": "x",
        "action": "bootstrap",
        "user": "system:node:controller-1",
        "why": "it has no client certificate",
    }
    assert plan.changes[1].why == "it asks for its certificate at start"
    assert does(compare(HOST, [asks], dataclasses.replace(seen, units={"x.service": dataclasses.replace(UP, active="inactive")}))) == [
        "bootstrap system:node:controller-1",
        "start x.service",
    ]


def test_a_certificate_of_its_own_is_judged_by_the_clock_of_its_host() -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    authority = root("x", keys="ec", days=10, now=now)
    request = Request(authority="x", certificate="x", common_name=OWN.name(HOST), organization=OWN.organization, usages=("client",))
    der = der_of(leaf(request, authority, now=now, lifetime=timedelta(days=1)))
    asks = dataclasses.replace(part(CONFIG), own=OWN, trusted=authority.certificate_pem.decode())

    def planned(clock: datetime) -> list[str]:
        facts = dataclasses.replace(FACTS, clock=clock.timestamp())
        return does(compare(HOST, [asks], dataclasses.replace(observed(CONFIG), facts=facts, certificates={OWN.path: der})))

    assert planned(now) == []
    assert planned(now + timedelta(days=2)) == ["bootstrap system:node:controller-1", "restart x.service"]


def test_the_document_holds_paths_units_and_objects_and_no_secret() -> None:
    plan = compare(HOST, [part(file("leaf.pem", Secret(b"CANARY")))], observed(unit=None))
    manifest = Manifest(
        object={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}, "data": {"k": "CANARY"}}
    )
    change = compare_object("x", manifest, None, None)
    assert change
    shown = document([plan], [change])

    assert shown["changes"] == 4
    assert shown["hosts"]["controller-1"][0] == {"component": "x", "action": "create", "path": "/etc/x/leaf.pem", "why": "it is not there"}
    assert shown["objects"] == [{"component": "x", "action": "create", "object": "configmap/n/m", "why": "it is not there"}]
    assert "CANARY" not in json.dumps(shown) + repr(plan) + repr(change)


def test_an_object_differs_only_by_what_the_dry_run_would_change() -> None:
    manifest = Manifest(object={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}})
    live = {"metadata": {"name": "m", "resourceVersion": "1", "managedFields": [1]}, "data": {"a": "1"}}
    same = {"metadata": {"name": "m", "resourceVersion": "2", "managedFields": [2]}, "data": {"a": "1"}}
    other = {"metadata": {"name": "m", "resourceVersion": "2"}, "data": {"a": "2"}}

    assert compare_object("x", manifest, live, same) is None
    change = compare_object("x", manifest, live, other)
    assert change is not None
    assert change.action == "apply"
