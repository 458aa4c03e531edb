"""Every certificate of a server is looked for on some port, and every port shows a certificate that is declared."""

from __future__ import annotations

from hardway.components import ALL
from hardway.pki.declared import Declarations


def test_each_certificate_of_a_server_is_shown_by_a_reader_of_it(declarations: Declarations) -> None:
    declared = {
        name: {reader for reader in one.read_by if reader.endswith(".service")}
        for authority in declarations.authorities
        for name, one in authority.certificates.items()
        if "server" in one.usages
    }

    assert {serving.certificate: {component.unit} for component in ALL for serving in component.serves} == declared


def test_no_two_daemons_of_a_host_show_theirs_on_one_port() -> None:
    ports = [serving.port for component in ALL for serving in component.serves]

    assert len(ports) == len(set(ports))
