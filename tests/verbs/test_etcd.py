"""What changes all of a cluster is done only if that was meant."""

from __future__ import annotations

import pytest

from hardway.verbs.program.cli import Cli
from tasks import CONTENTS


@pytest.mark.parametrize("verb", [["etcd.restore", "one.db"], ["etcd.revert"]])
def test_without_yes_nothing_is_asked_or_done(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Cli(CONTENTS, version="0").run(["inv", *verb])

    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {verb[0]}: every controller's etcd and API server stop")
    assert said.endswith("add --yes if that is meant\n")


@pytest.mark.parametrize(("verb", "lacks"), [("etcd.restore", "file"), ("etcd.rejoin", "host")])
def test_without_a_file_or_a_host_it_is_wrong_usage(verb: str, lacks: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Cli(CONTENTS, version="0").run(["inv", verb, "--yes"])

    assert ended.value.code == 64
    assert lacks in capsys.readouterr().err
