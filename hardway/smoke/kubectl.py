"""kubectl, as a person has it: what it says, and the connections that it carries into Pods."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hardway.errors import Mistake

PATIENCE = 60.0  # seconds for a command
CARRIES = 30.0  # seconds for which a port of a Pod is carried here, at most
SILENT = "it said nothing in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """A kubectl, and how it reaches the cluster."""

    program: Path
    kubeconfig: Path
    context: str = ""  # of the kubeconfig; its current one if empty
    cache: Path | None = None  # kubectl's own place if none is named

    def run(self, *argv: str) -> str:
        """Its standard output; a Mistake with what it said if it fails."""
        words, environment = [*self._argv, "--request-timeout=30s", *argv], self._environment
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
        if done.returncode:
            raise Mistake.at("kubectl", f"`kubectl {' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def forwarded(self, namespace: str, pod: str, port: int) -> Iterator[int]:
        """A port of this machine's loopback that leads to one of a Pod, for as long as the context lasts."""
        argv = [*self._argv, "port-forward", "--namespace", namespace, f"pod/{pod}", f":{port}", "--address=127.0.0.1"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment) as carrier:
            limit = threading.Timer(CARRIES, carrier.kill)
            limit.start()
            try:
                said = carrier.stdout.readline() if carrier.stdout else ""
                found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", said)
                if found is None:
                    carrier.kill()
                    why = said.strip() or (carrier.stderr.read().strip() if carrier.stderr else "")
                    raise Mistake.at("kubectl", f"`kubectl port-forward pod/{pod} :{port}` does not begin: {why or SILENT}")
                yield int(found[1])
            finally:
                limit.cancel()
                carrier.kill()

    @property
    def _argv(self) -> list[str]:
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *(["--context", self.context] if self.context else [])]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **({"KUBECACHEDIR": str(self.cache)} if self.cache else {})}
