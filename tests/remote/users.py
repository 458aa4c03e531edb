"""An sshd that knows users of its own: it runs in a mount namespace where /etc has other accounts and other rules for sudo."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.remote.sshd import Sshd, start

PASSWORD = "open sesame"  # noqa: S105 - of users who live as long as a test
FIRST = 47110  # their numbers
wants_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("sudo"), reason="wants root, to make users, and sudo")


@contextmanager
def users(shells: Mapping[str, str], sudoers: str = "", settings: str = "") -> Iterator[Sshd]:
    """A server with these users, each with his login shell: a path, or the text of a program."""
    with tempfile.TemporaryDirectory(prefix="hardway-sshd-") as directory:
        base = Path(directory)
        base.chmod(0o755)
        etc = base / "etc"
        etc.mkdir(mode=0o755)
        hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout.strip()
        files = {"passwd": Path("/etc/passwd").read_text(), "shadow": "root:*:19000::::::\n", "sudoers": f"root ALL=(ALL) ALL\n{sudoers}\n"}
        for number, (name, shell) in enumerate(shells.items(), FIRST):
            home = base / "home" / name
            home.mkdir(parents=True, mode=0o755)
            os.chown(home, number, number)
            if shell.startswith("#!"):
                (program := base / f"{name}.shell").write_text(shell)
                program.chmod(0o755)
                shell = str(program)  # noqa: PLW2901 - from here on it is the path
            files["passwd"] += f"{name}:x:{number}:{number}::{home}:{shell}\n"
            files["shadow"] += f"{name}:{hashed}:19000::::::\n"
        files["pam.d/sudo"] = "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
        (etc / "pam.d").mkdir(mode=0o755)
        for file, text in files.items():
            (etc / file).write_text(text)
            (etc / file).chmod(0o440 if file in {"shadow", "sudoers"} else 0o644)
        mounts = "; ".join(f'mount --bind "$0/{file}" "/etc/{file}"' for file in files)
        within: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{mounts}; exec "$@"', etc]
        server = start(base, settings, within)
        try:
            yield server
        finally:
            server.stop()
