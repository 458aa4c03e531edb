"""Why a connection did not come about, in an operator's words."""

from __future__ import annotations

from dataclasses import replace

import paramiko

from hardway.errors import Mistake
from hardway.remote.ssh.way import Way


class UnknownKeyError(Exception):
    """Nobody has recorded the key that a host shows."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__(f"unknown host key {key.fingerprint}")
        self.key = key


# Another attempt would be told the same, and be counted by whoever watches for intruders.
FINAL = (UnknownKeyError, paramiko.BadHostKeyException, paramiko.AuthenticationException, Mistake)
PASSING = (paramiko.SSHException, OSError, EOFError)


def refusal(host: str, to: Way, error: BaseException, *, hop: bool) -> Mistake:
    """One line: of which host, what, and what to do; `hop` is a jump host on the way to it."""
    at = f"{host}: jump host {to.known_as}" if hop else host
    trust = "sign in to it once by ssh, which records it" if hop else "run ./inv hosts.trust"
    match error:
        case UnknownKeyError():
            what, step = f"the host key of {to.known_as} is unknown: it shows {error.key.fingerprint}", f"compare it and {trust}"
        case paramiko.BadHostKeyException():
            what = f"its host key has changed: it shows {error.key.fingerprint}, known is {error.expected_key.fingerprint}"
            step = f"if that is right, {trust}; if not, somebody is in between"
        case paramiko.AuthenticationException():
            with_it = f" with {' or '.join(str(key) for key in to.keys)}" if to.keys else ""
            what, step = f"user {to.user} may not sign in{with_it}: {told(error)}", "put the public key into its authorized_keys"
        case Mistake():
            return Mistake(*(replace(one, where=": ".join(filter(None, (at, one.where)))) for one in error.findings))
        case _:
            how = f"by `{to.command}`" if to.command else f"at {to.address} port {to.port}"
            what, step = f"cannot be reached {how}: {told(error)}", "is it up, and is this its address?"
    return Mistake.at(at, what, step)


def told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
