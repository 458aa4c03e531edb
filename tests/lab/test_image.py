from __future__ import annotations

from hardway.lab import image

DEBIAN = """\
Types: deb
# http://snapshot.example/archive/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main
"""


def test_of_this_machines_sources_only_the_archive_of_the_image_is_used() -> None:
    found = image.sources(
        {
            "/etc/apt/sources.list": "# deb http://old.example bookworm main\ndeb http://mirror.example/debian bookworm main contrib\n",
            "/etc/apt/sources.list.d/debian.sources": DEBIAN,
            "/etc/apt/sources.list.d/vendor.list": "deb https://vendor.example/apt bookworm stable\n",
        }
    )

    assert set(found) == {"/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"}
    assert found["/etc/apt/sources.list"] == "deb http://mirror.example/debian bookworm main contrib\n"
    assert "URIs: http://mirror.example/debian\n" in found["/etc/apt/sources.list.d/debian.sources"]
    assert "vendor" not in found["/etc/apt/sources.list.d/debian.sources"]


def test_a_machine_of_another_release_leaves_the_choice_to_mmdebstrap() -> None:
    assert image.sources({"/etc/apt/sources.list": "deb http://mirror.example/debian trixie main\n"}) == {}
