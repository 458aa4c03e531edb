"""A cluster that a kubeconfig leads to: what is announced before anything is done there, and the stage for its checks."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hardway.errors import Mistake
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.desired import Check, PodSettings, Secret
    from hardway.inventory import Host
    from hardway.observed import Observed
    from hardway.remote.elsewhere import Context as Known
    from hardway.remote.elsewhere import Elsewhere
    from hardway.smoke import ClusterStage

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator has said of the cluster."""

    kubeconfig: Path
    context: str
    namespace: str
    read_only: bool = False
    yes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """The cluster, reached."""

    asked: Asked
    session: Session
    cluster: Elsewhere
    kubectl: Path
    context: Known
    user: str  # as its API server sees us
    space: str

    def rbac(self, checks: tuple[Check, ...]) -> str:
        """The smallest Roles for these checks."""
        from hardway.smoke import contract

        return contract.roles(checks, self.space, self.user)

    def agreed(self, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        """The checks, bounded by what is allowed; announced first, and a Mistake if they would write and nobody said yes."""
        from hardway.smoke import contract

        tell = self.session.console.tell
        bounded = contract.bounded(checks, self.cluster, self.space, read_only=self.asked.read_only)
        planned = contract.writes(bounded, self.space)
        tell(f"context    {self.context.name} of {self.asked.kubeconfig}")
        tell(f"server     {self.context.server}")
        tell(f"user       {self.user}")
        tell(f"namespace  {self.space}")
        tell(f"writes     {'; '.join(planned) or 'nothing'}")
        if planned and not self.asked.yes:
            raise Mistake.at("smoke", "nothing was done", "add --yes if that is to be written, or --read-only")
        return bounded

    def stage(self, tell: Tell, pods: PodSettings) -> ClusterStage:
        """Where its checks act: in a namespace that stays."""
        from hardway.smoke import ClusterStage, Kubectl

        def no_host(host: Host) -> Observed:
            raise AssertionError(host)  # it has none

        def no_authority(authority: str, *_: object) -> Secret:
            raise Mistake.at(self.context.name, f"its authority {authority} is not ours")

        kubectl = Kubectl(program=self.kubectl, kubeconfig=self.asked.kubeconfig, context=self.context.name)
        return ClusterStage(self.cluster, observe=no_host, issue=no_authority, kubectl=kubectl, tell=tell, space=self.space, settings=pods)


@contextmanager
def stranger(session: Session, asked: Asked) -> Iterator[There]:
    """Reach the cluster of a kubeconfig."""
    from hardway.remote.elsewhere import Context, elsewhere

    kubectl = kubectl_program(session, session.console.tell)
    if kubectl is None:
        raise Mistake.at("kubectl", f"there is none for {platform.machine()}")
    context = Context.read(kubectl, asked.kubeconfig, asked.context)
    with elsewhere(kubectl, asked.kubeconfig, context) as cluster:
        yield There(
            asked=asked,
            session=session,
            cluster=cluster,
            kubectl=kubectl,
            context=context,
            user=cluster.meet(),
            space=asked.namespace or context.namespace,
        )


def kubectl_program(session: Session, tell: Tell) -> Path | None:
    """Our kubectl for this machine, brought into the cache if need be; None if there is none for it."""
    from hardway.binaries.fetch import CACHE, fetch
    from hardway.remote.protocol import ARCHITECTURES

    arch = ARCHITECTURES.get(platform.machine())
    return fetch(["kubectl"], arch, session.inventory, CACHE, tell, pins=session.state / "pins.json")["kubectl"].path if arch else None
