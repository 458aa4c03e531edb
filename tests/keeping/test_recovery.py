from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hardway import pod_ranges
from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.keeping import recovery
from hardway.keeping.reading import ENCRYPTION, RANGE, ROUTES, ask
from hardway.pki import issue, kept, sealing
from hardway.pki.pair import new_key, private_pem, root
from hardway.remote.protocol import Apply, Move
from hardway.state import State
from tests.keeping.conftest import NOW, Files, Pushed
from tests.pki.test_sealing import below
from tests.remote.fakehost import FakeHost

KEY = PurePosixPath("/etc/kubernetes/kube-apiserver/service-account.pem")
PUBLIC = PurePosixPath("/etc/kubernetes/kube-apiserver/service-account.pub")
CA = PurePosixPath("/etc/kubernetes/kube-controller-manager/ca.crt")
PEER = PurePosixPath("/etc/etcd/pki/peer.pem")
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def fresh(tmp_path: Path) -> State:
    return State(tmp_path / "state" / "kit")


@pytest.fixture
def recover(pushed: Pushed, fresh: State) -> Callable[[Files], recovery.Found]:
    def run(carried: Files) -> recovery.Found:
        found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)
        recovery.keep(fresh, found)
        return found

    return run


Recover = Callable[[Files], recovery.Found]


def answer(status: int, body: Any) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode())


def test_a_push_from_what_was_recovered_would_bring_every_host_what_it_has(
    pushed: Pushed, carried: Files, recover: Recover, fresh: State
) -> None:
    recover(carried)

    assert issue.ensure(pushed.declarations, pushed.inventory, fresh, LATER) == ()
    assert pushed.carried(fresh) == carried
    assert {path for files in carried.values() for path in files} > {KEY, PUBLIC, CA, PEER, ENCRYPTION, ROUTES, RANGE}
    assert pod_ranges.kept(fresh) == {name: value for name, value in pod_ranges.kept(pushed.state).items() if name != "gone"}


def test_the_losses_are_exactly_what_is_on_no_host_and_each_says_what_follows(recover: Recover, carried: Files) -> None:
    lost = recover(carried).lost

    assert [line.partition(",")[0].partition(" (")[0] for line in lost] == [
        "the key of authority etcd",
        "the key of authority front-proxy",
        "the key of authority kubernetes",
        "the operator's etcd-operator",
        "the operator's admin",
    ]
    assert "bring pki/kubernetes/authority-2026a.key back" in lost[2]
    assert "etcdctl of controller-1, good until 2027-11-25" in lost[3]
    assert "one that cluster-signing has signed, good until 2027-11-25" in lost[4]


def test_what_needs_a_lost_key_is_refused_and_a_key_that_is_found_again_ends_that(
    pushed: Pushed, recover: Recover, carried: Files, fresh: State
) -> None:
    recover(carried)
    fresh.remove("pki/etcd/etcd-peer@controller-1.pem")
    with pytest.raises(Mistake, match=r"authority etcd: its key is missing, neither here nor in authority-2026a\.key"):
        issue.ensure(pushed.declarations, pushed.inventory, fresh, LATER)

    for name in ("etcd", "kubernetes", "front-proxy"):
        pem = pushed.state.read(f"pki/{name}/authority-2026a.pem")
        fresh.write(f"pki/{name}/authority-2026a.key", pem[pem.index(b"-----BEGIN PRIVATE") :])

    made = {one.file for one in issue.ensure(pushed.declarations, pushed.inventory, fresh, LATER)}
    assert made == {"pki/etcd/etcd-peer@controller-1.pem", "pki/etcd/etcd-operator.pem", "pki/kubernetes/admin.pem"}


def test_without_an_authority_that_signs_on_hosts_the_administrator_is_lost_too(pushed: Pushed, tmp_path: Path) -> None:
    state = State(Path(shutil.copytree(pushed.state.root, tmp_path / "kit")))
    alone = replace(pushed, inventory=replace(pushed.inventory, csr_signer="none"))

    found = recovery.recovered(alone.declarations, alone.inventory, alone.carried(state), LATER)

    assert "pki/kubernetes/admin.pem" not in found.files
    assert "plan and push cannot ask the cluster; bring the key of authority kubernetes back" in found.lost[-1]


@pytest.mark.parametrize("path", [KEY, PUBLIC, CA, ENCRYPTION, ROUTES], ids=lambda path: path.name)
def test_hosts_that_disagree_stop_it_and_nothing_is_written(
    pushed: Pushed, carried: Files, recover: Recover, fresh: State, path: PurePosixPath
) -> None:
    other = new_key("ec")
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    texts = {
        KEY: private_pem(other).decode(),
        PUBLIC: public,
        CA: root("kubernetes-2026a", keys="ec", days=9, now=NOW).certificate_pem.decode(),
        ENCRYPTION: carried["controller-2"][ENCRYPTION].replace(
            pushed.state.read("pki/encryption/key-2026a").decode(), base64.b64encode(bytes(32)).decode()
        ),
        ROUTES: carried["controller-2"][ROUTES].replace("10.200.2.0/24", "10.200.9.0/24"),
    }
    assert texts[path] != carried["controller-2"][path]
    carried["controller-2"][path] = texts[path]

    with pytest.raises(Mistake, match=f"the hosts disagree: controller-2:{path} against"):
        recover(carried)
    assert fresh.glob("**/*") == ()


def test_a_bundle_of_two_generations_gives_back_both_in_order(pushed: Pushed, tmp_path: Path) -> None:
    state = State(Path(shutil.copytree(pushed.state.root, tmp_path / "kit")))
    state.write("pki/kubernetes/authority-2026b.pem", root("kubernetes-2026b", keys="ec", days=3650, now=NOW).pem)
    carried = pushed.carried(state)

    found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)

    recovery.keep(State(tmp_path / "fresh"), found)
    names = [one.name for one in kept.generations(State(tmp_path / "fresh"), "kubernetes")]
    assert names == ["2026a", "2026b"]
    assert pushed.carried(State(tmp_path / "fresh")) == carried


def test_a_host_that_lacks_a_file_loses_that_alone(carried: Files, recover: Recover) -> None:
    del carried["controller-2"][PEER]
    carried["controller-3"][PEER] = "damaged"
    del carried["controller-1"][KEY]

    lost = [line for line in recover(carried).lost if "peer" in line or "service-account" in line]

    assert len(lost) == 2
    assert lost[0].startswith(f"controller-2:{PEER}: it is not there")
    assert lost[1].startswith(f"controller-3:{PEER}: no certificate can be read")


def test_keys_that_no_host_has_are_told_with_what_they_cost(carried: Files, recover: Recover) -> None:
    for files in carried.values():
        for path in [path for path in files if path.name in {"service-account.pem", "encryption.yaml", "10-bridge.conflist", "routes.sh"}]:
            del files[path]

    lost = "\n".join(recover(carried).lost)

    assert "key pair service-account: no host has it" in lost
    assert "Secrets, cannot be read any more" in lost


def test_a_certificate_that_somebody_else_signed_is_not_taken(carried: Files, recover: Recover, fresh: State) -> None:
    carried["controller-1"][PEER] = root("stranger", keys="ec", days=9, now=NOW).pem.decode()

    assert "stranger signed it, whom no host trusts" in "\n".join(recover(carried).lost)
    assert not fresh.path("pki/etcd/etcd-peer@controller-1.pem").exists()


def test_hosts_without_anything_of_ours_are_no_cluster(pushed: Pushed, fresh: State, recover: Recover) -> None:
    with pytest.raises(Mistake, match="no host carries anything of this kit"):
        recover({host.name: {} for host in pushed.inventory.hosts})
    assert fresh.glob("**/*") == ()


def test_what_is_there_is_not_overwritten(carried: Files, recover: Recover, fresh: State) -> None:
    fresh.write("pki/kubernetes/authority-2026a.pem", b"mine")
    with pytest.raises(Mistake, match="there are keys and certificates already; if it is of no use, move it away"):
        recover(carried)

    assert fresh.glob("pki/**/*") == ("pki/kubernetes/authority-2026a.pem",)


def test_an_authority_of_ones_own_comes_back_with_the_certificates_above_it(pushed: Pushed, tmp_path: Path) -> None:
    state = State(tmp_path / "state" / "kit")
    above = root("our root", keys="ec", days=3650, now=NOW)
    own = below(above, "our clusters", NOW)
    assert own.key
    file = tmp_path / "own.pem"
    file.write_bytes(own.certificate_pem + above.certificate_pem + private_pem(own.key))
    sealing.adopt(pushed.declarations, pushed.inventory, state, "kubernetes", file, NOW)
    issue.ensure(pushed.declarations, pushed.inventory, state, NOW)
    carried = pushed.carried(state)

    found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)

    recovery.keep(State(tmp_path / "fresh"), found)
    (generation,) = kept.generations(State(tmp_path / "fresh"), "kubernetes")
    assert (generation.common_name, generation.above) == ("our clusters", above.certificate_pem.decode())
    assert pushed.carried(State(tmp_path / "fresh")) == carried


def test_a_host_is_asked_for_files_of_the_kit_alone_and_nothing_is_written_there(pushed: Pushed, carried: Files, host: FakeHost) -> None:
    one = next(one for one in pushed.inventory.hosts if one.name == "controller-1")
    content = carried[one.name][PEER].encode()
    after = hashlib.sha256(content).hexdigest()
    user = f"{Path.home().owner()}:{Path.home().group()}"
    host.machine().apply(Apply(moves=(Move(path=PEER, owner=user, mode=0o600, before=None, after=after),), contents=(content,)))
    foreign = host.path(CA)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("another kit's")
    before = host.tree()

    read = ask(replace(pushed.inventory, hosts=(one,)), pushed.declarations, {one.name: host.machine()})

    assert read == {one.name: {PEER: content.decode()}}
    assert host.tree() == before


def test_a_range_that_no_host_names_comes_of_its_node_and_else_is_lost(pushed: Pushed, carried: Files, fresh: State) -> None:
    for files in carried.values():
        for path in {ROUTES, RANGE} & files.keys():
            del files[path]
    found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)
    items = [{"metadata": {"name": name}, "spec": spec} for name, spec in (("worker-1", {"podCIDR": "10.200.7.0/24"}), ("worker-2", {}))]

    ranges = recovery.keep(fresh, found, lambda _: recovery.of_nodes(answer(200, {"items": items})))

    assert {name: str(one) for name, one in pod_ranges.kept(fresh).items()} == {"worker-1": "10.200.7.0/24"}
    assert [line.partition(":")[0] for line in recovery.unranged(pushed.inventory, ranges)] == ["the Pod range of worker-2"]
    with pytest.raises(Mistake, match="answers 403"):
        recovery.of_nodes(answer(403, {}))


def test_a_node_that_disagrees_with_the_hosts_stops_it(pushed: Pushed, carried: Files, fresh: State) -> None:
    found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)

    with pytest.raises(Mistake, match="the Pod range of worker-1: the hosts disagree: its Node against the hosts"):
        recovery.keep(fresh, found, lambda _: {"worker-1": IPv4Network("10.200.7.0/24")})
    assert fresh.glob("**/*") == ()


def test_keys_in_the_middle_of_a_replacement_come_back_as_they_were(pushed: Pushed, tmp_path: Path) -> None:
    state = State(Path(shutil.copytree(pushed.state.root, tmp_path / "kit")))
    for name in ("next-2026c", "key-2026b", "key-2025z"):
        state.write(f"pki/encryption/{name}", base64.b64encode(name.encode().ljust(32)))
    carried = pushed.carried(state)
    assert carried["controller-1"][ENCRYPTION].count("secret:") == 4

    found = recovery.recovered(pushed.declarations, pushed.inventory, carried, LATER)

    assert {name: found.files[name] for name in found.files if "encryption" in name} == {
        name: state.read(name) for name in state.glob("pki/encryption/*")
    }


def test_a_public_key_whose_private_half_is_on_no_host_is_told(pushed: Pushed, tmp_path: Path) -> None:
    state = State(Path(shutil.copytree(pushed.state.root, tmp_path / "kit")))
    state.write("pki/service-account/key-2025a.pem", private_pem(new_key("ec")))

    lost = recovery.recovered(pushed.declarations, pushed.inventory, pushed.carried(state), LATER).lost

    assert "key pair service-account: 1 private keys beside the one that signs" in "\n".join(lost)
