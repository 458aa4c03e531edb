"""kube-apiserver-lb: balances what comes to the endpoint, and drops an API server that is dead."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

from hardway.components import kube_apiserver, kube_apiserver_lb
from hardway.desired import Check, Stage
from hardway.inventory import Host
from hardway.smoke.checks.loss import BACK, RECOVERED, STEADY, all_well
from hardway.smoke.pulse import beating
from hardway.smoke.verdict import Failed, Journal, Skipped, balancer, eventually, expecting

NOTICED = 3.0  # seconds; the balancer asks each half second, and believes the second answer


def drops_dead_backend(stage: Stage) -> str:
    """Kill an API server, and see who answers at the endpoint."""
    inventory = stage.inventory
    controllers = inventory.on("controller")
    if len(controllers) < 2 or inventory.endpoint.loadbalancer == "none":
        raise Skipped("there is no balancer, or nothing to balance")
    all_well(stage)
    victim, unit = controllers[-1], kube_apiserver.COMPONENT.unit
    look = balancer(inventory)
    endpoint = Host(name="endpoint", address=inventory.endpoint.address, roles=frozenset())
    by_serial = {stage.issued("kube-apiserver", host): host.name for host in controllers}
    times = 3 * len(controllers)

    def connect() -> str:
        return by_serial.get(stage.served(endpoint, inventory.endpoint.port), "somebody else")

    def reached(expected: str) -> Counter[str]:
        with expecting(expected, look):
            return Counter(connect() for _ in range(times))

    def everybody() -> str | None:
        seen = Counter(connect() for _ in range(times))
        missing = set(by_serial.values()) - set(seen)
        return f"{', '.join(sorted(missing))} got none of {times} connections" if missing else None

    eventually(stage, "connections to reach every API server", everybody, within=NOTICED, look=look)
    with beating(connect) as pulse, stage.stopped(victim, unit, killed=True):
        dead = time.monotonic()
        stage.wait(lambda: None if time.monotonic() - dead >= NOTICED else "waiting", NOTICED + 1)
        noticed = time.monotonic()
        seen = reached(f"new connections to succeed {NOTICED:.0f} s after the API server on {victim.name} is dead")
        eventually(stage, "new connections to succeed", lambda: pulse.steady(STEADY, noticed), within=RECOVERED, look=look)
        if failed := pulse.failed(noticed):
            expected = f"every new connection to succeed {NOTICED:.0f} s after the API server on {victim.name} is dead"
            raise Failed(expected, f"{len(failed)} did not: {failed[0].error}", look)
        if victim.name in seen:
            raise Failed(f"no connection to reach {victim.name}", f"{seen[victim.name]} of {times} did", look)
    ready = partial(kube_apiserver.ready, stage, victim)
    eventually(stage, f"the API server on {victim.name} to be back", ready, within=BACK, look=Journal(victim, unit))
    eventually(stage, "connections to reach every API server again", everybody, within=RECOVERED, look=look)
    return "\n".join(
        (
            f"systemctl kill --signal=KILL {unit} on {victim.name}",
            f"new connections to {inventory.server} all the while: {pulse}",
            f"{times} of them meanwhile, by the serial number of the certificate: {', '.join(f'{n} {seen[n]}' for n in sorted(seen))}",
            f"started again, {victim.name} is among those that are reached",
        )
    )


CHECKS = (
    Check(
        name="lb.drops-dead-backend",
        component=kube_apiserver_lb.COMPONENT.name,
        proves="the balancer notices a dead API server at once: no new connection is lost, and it gets traffic again afterwards",
        run=drops_dead_backend,
        needs=frozenset({"hosts", "disruptive"}),
        sabotage="the balancer does not check its servers",
    ),
)
