"""Units of a host that do not run for a while, and run again afterwards: even if nobody is there to start them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from hardway.inventory import Host

Run = Callable[..., str]  # a host and a command -> its standard output

DEAD_MAN = 900  # seconds after which the host starts the units by itself: whoever has stopped them is gone

_RUNS = """
for unit; do
  systemctl is-active --quiet "$unit" || { echo "$unit does not run" >&2; exit 1; }
done
"""
# $1 the timer's name, $2 its seconds, $3 how, then the units.
_BEGIN = """
timer=$1 after=$2 how=$3; shift 3
systemd-run --quiet --unit="$timer" --on-active="$after" systemctl start --no-block "$@"
if [ "$how" = killed ]; then systemctl kill --signal=KILL "$@"; fi
systemctl stop "$@"
"""
_END = """
timer=$1; shift
systemctl start "$@"
systemctl stop "$timer.timer"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Some units of one host, stopped or killed."""

    host: Host
    units: tuple[str, ...]
    killed: bool = False
    timer: str = field(default_factory=lambda: f"hardway-smoke-{secrets.token_hex(4)}")

    def check(self, run: Run) -> None:
        """A Mistake if one of them does not run: what somebody else has stopped is not ours to start."""
        run(self.host, "sh", "-ec", _RUNS, "sh", *self.units)

    def begin(self, run: Run) -> None:
        """Stop them, once it is sure that they will be started again."""
        how = "killed" if self.killed else "stopped"
        run(self.host, "sh", "-ec", _BEGIN, "sh", self.timer, str(DEAD_MAN), how, *self.units)

    def end(self, run: Run) -> None:
        """Start them, in the order in which they were named."""
        run(self.host, "sh", "-ec", _END, "sh", self.timer, *self.units)

    def __str__(self) -> str:
        return f"{', '.join(self.units)} on {self.host.name}"
