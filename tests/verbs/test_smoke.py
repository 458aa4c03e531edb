"""Which checks `./inv smoke` runs, and how it refuses names that it does not know."""

from __future__ import annotations

from typing import Any

import pytest
from invoke.exceptions import Exit

from hardway.desired import PodSettings, Toleration
from hardway.errors import Mistake
from hardway.smoke import CHECKS
from hardway.verbs.smoke import _misused, choose, harmless, settings


def test_without_options_all_checks_are_chosen() -> None:
    assert choose("", "") == CHECKS


def test_a_component_chooses_its_checks_in_the_order_of_the_list() -> None:
    names = ["kube-scheduler.unit", "scheduler.assigns", "scheduler.filters", "scheduler.scores", "scheduler.leader"]
    names.append("scheduler.leader-takeover")
    assert [check.name for check in choose("kube-scheduler", "")] == names


def test_what_stops_things_is_left_out_where_nobody_has_asked_for_it() -> None:
    left_out = {check.name for check in CHECKS} - {check.name for check in harmless(CHECKS)}

    losses = {"etcd.survives-member-loss", "cluster.survives-controller-loss", "controllers.node-loss", "dns.survives-replica-loss"}
    takeovers = {"controllers.leader-takeover", "scheduler.leader-takeover"}
    assert left_out == {"lb.drops-dead-backend", *losses, *takeovers}


def test_a_check_is_chosen_by_its_name() -> None:
    assert [check.name for check in choose("", "etcd.keys")] == ["etcd.keys"]


@pytest.mark.parametrize(
    ("component", "check", "line"),
    [
        ("", "etcd.quorm", "--check: there is no etcd.quorm; did you mean etcd.quorum?"),
        ("kube-sheduler", "", "--component: there is no kube-sheduler; did you mean kube-scheduler?"),
        ("etcd", "scheduler.leader", "--check: scheduler.leader is no check of etcd; leave one of the two options away"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_the_near_one(component: str, check: str, line: str) -> None:
    with pytest.raises(Mistake) as mistake:
        choose(component, check)

    assert str(mistake.value) == line


def test_what_is_said_of_pods_is_taken_word_by_word() -> None:
    said = settings("mirror/agnhost:1", "pull", ["gpu,dedicated=ml:NoSchedule", "spot"], 2)

    tolerations = (Toleration(key="gpu"), Toleration(key="dedicated", value="ml", effect="NoSchedule"), Toleration(key="spot"))
    assert said == PodSettings(image="mirror/agnhost:1", pull_secret="pull", tolerations=tolerations, nodes=2)  # noqa: S106 - a name
    assert settings("", "", (), 0) == PodSettings()


def test_fewer_nodes_than_none_are_refused() -> None:
    with pytest.raises(Exit, match="--nodes takes a number of nodes") as refused:
        settings("", "", (), -1)

    assert refused.value.code == 64


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"parallel": 7}, "--parallel takes a number of checks, from 1 to 6"),
        ({"parallel": -1}, "--parallel takes a number of checks, from 1 to 6"),
        ({"strange": True}, "and --yes go with --kubeconfig"),
        ({"all_without": True}, "--all goes with --cleanup"),
        ({"kubeconfig": True, "disruptive": True}, "nothing is stopped on a cluster"),
        ({"parallel": 6}, ""),
        ({"kubeconfig": True, "strange": True}, ""),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], why: str) -> None:
    rest = {"kubeconfig": False, "strange": False, "disruptive": False, "parallel": 0, "all_without": False}

    found = _misused(**{**rest, **options})

    assert (found is None) == (not why)
    assert why in (found or "")
