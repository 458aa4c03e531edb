"""SSH to a host: the way there, the keys to sign in with, the host keys that are known, the line itself."""

from hardway.remote.ssh.keys import Once
from hardway.remote.ssh.line import SshLine, line

__all__ = ["Once", "SshLine", "line"]
