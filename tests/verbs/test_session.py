from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from hardway.errors import Mistake
from hardway.verbs.program.cli import ROOT
from hardway.verbs.program.session import Session


def context(inventory: Path) -> Context:
    config = Config(lazy=True)
    config.load_overrides({"hardway": {"inventory": str(inventory), "debug": False, "passphrase_file": "", "passthrough": ()}})
    return Context(config)


def test_a_session_has_the_inventory_that_was_named_and_the_directories_of_its_cluster(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text((ROOT / "inventory.yaml").read_text().replace("cluster: hardway", "cluster: mine"))

    session = Session.open(context(tmp_path / "mine.yaml"))
    assert session.inventory.cluster == "mine"
    assert session.state == ROOT / "state" / "mine"
    assert session.certs == ROOT / "certs"


def test_warnings_are_told_and_stop_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in (ROOT / "inventory.yaml").read_text().splitlines() if "controller-3" not in line]
    (tmp_path / "two.yaml").write_text("\n".join(lines))

    Session.open(context(tmp_path / "two.yaml"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: hosts: 2 controllers: etcd survives no more failures than with 1; take 1 or 3\n"


def test_mistakes_in_the_inventory_stop_the_verb(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="no such file"):
        Session.open(context(tmp_path / "none.yaml"))
