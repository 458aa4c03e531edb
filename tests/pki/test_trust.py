from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardway.pki.trust import Generation, Phase, Trust


def generation(name: str) -> Generation:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Generation(
        authority="etcd",
        name=name,
        common_name=f"etcd-ca-{name}",
        ski=f"key of {name}",
        not_before=when,
        not_after=when,
        certificate=f"<{name}>",
    )


A, B = generation("2026a"), generation("2026b")


@pytest.mark.parametrize(
    ("there", "issuers", "signer", "phase"),
    [
        ([A], [], A, Phase.SETTLED),
        ([A], [A.ski], A, Phase.SETTLED),
        ([A, B], [], A, Phase.PREPARED),
        ([A, B], [A.ski], A, Phase.PREPARED),
        ([B, A], [A.ski, B.ski], B, Phase.SWITCHED),
        ([A, B], [B.ski], B, Phase.SWITCHED),
        ([B], [B.ski], B, Phase.SETTLED),
        ([B], [A.ski], B, Phase.SETTLED),
    ],
)
def test_the_phase_follows_from_the_certificates(there: list[Generation], issuers: list[str], signer: Generation, phase: Phase) -> None:
    trust = Trust.derive(there, issuers)

    assert (trust.signer, trust.phase) == (signer, phase)
    assert list(trust.trusted) == sorted(there, key=lambda one: one.name)


def test_a_bundle_has_the_oldest_first() -> None:
    there = [generation(name) for name in ("2027a", "2026aa", "2026b", "2026z")]

    assert Trust.derive(there, []).bundle == "<2026b><2026z><2026aa><2027a>"


@settings(deadline=None)  # a busy machine is no error
@given(st.permutations(["2026a", "2026b", "2027a"]), st.lists(st.sampled_from(["2026a", "2026b", "2027a", "gone"])))
def test_whatever_was_found_the_signer_is_trusted_and_no_newer_one_has_signed(names: list[str], signed: list[str]) -> None:
    trust = Trust.derive(map(generation, names), [f"key of {name}" for name in signed])

    assert trust.signer in trust.trusted
    newer = trust.trusted[trust.trusted.index(trust.signer) + 1 :]
    assert not {one.ski for one in newer} & {f"key of {name}" for name in signed}


@settings(deadline=None)  # a busy machine is no error
@given(st.lists(st.sampled_from(["add", "issue", "switch", "drop"]), max_size=12), st.randoms(use_true_random=False))
def test_in_any_order_of_a_rotation_every_issuer_is_in_the_bundle(steps: list[str], random: Random) -> None:
    """Steps as a rotation takes them; one that may not be taken yet is left out, as its gate would."""
    there, leaves = [generation("2026a")], {"one": "2026a", "two": "2026a"}
    for number, step in enumerate(steps):
        trust = Trust.derive(there, [f"key of {name}" for name in leaves.values()])
        if step == "add" and trust.phase is Phase.SETTLED:
            there.append(generation(f"{2027 + number}a"))
        elif step == "issue":  # a crash may leave any part of the leaves issued
            leaves[random.choice(sorted(leaves))] = trust.signer.name
        elif step == "switch" and trust.phase is not Phase.SETTLED:
            leaves[random.choice(sorted(leaves))] = trust.trusted[-1].name
        elif step == "drop" and trust.phase is Phase.SWITCHED and set(leaves.values()) == {trust.signer.name}:
            there.remove(trust.trusted[0])
        after = Trust.derive(there, [f"key of {name}" for name in leaves.values()])
        assert set(leaves.values()) <= {one.name for one in after.trusted}
        assert len(after.trusted) <= 2
