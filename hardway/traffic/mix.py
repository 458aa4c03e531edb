"""What is asked, how often and by whom: the mix of clients that keep the load up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hardway.traffic.client import Client, Reply, Wrong, expecting, told
from hardway.traffic.ground import METRICS, Ground, configmap, hooked, unmutated
from hardway.traffic.inside import EACH, NAME
from hardway.traffic.watch import Written

PROTOCOLS = ("http/1.1", "http/2")
SELECTOR = f"labelSelector={NAME}%3Dwatched"
PLAIN_PUT, PLAIN_POST = "put_without_replay", "post_without_replay"
PLAIN = (PLAIN_PUT, PLAIN_POST)  # by clients that never ask again, over HTTP/1.1: reported beside the rest, as nothing can make them 0
LEAST = 0.8  # of what the rates say has to be reached
IN_PODS = {"service": 0.5 * 100 / EACH, "service_account": 0.8}  # a second; a busy machine's shell takes its time for each

Work = Callable[[Client], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One client: what it does again and again, and how often a second."""

    kinds: tuple[str, ...]
    protocol: str
    kept: bool
    rate: float
    work: Work
    replays: bool = True


def parts(ground: Ground, written: Written, numbers: Iterator[int]) -> tuple[Part, ...]:
    """Every client of the mix that this cluster can answer."""
    maps, server = ground.path("configmaps"), ground.path("pods", "server-1")
    several: list[tuple[str, tuple[float, float], Callable[[str], Work]]] = [
        # kind, how often over kept connections and over new ones, and the work of the client of that name
        ("get", (6, 2), lambda name: _get("get", f"{maps}/{watched(name)}")),
        ("list", (2, 1), lambda _: _get("list", f"{maps}?{SELECTOR}")),
        ("put", (4, 2), lambda name: _put("put", f"{maps}/{watched(name)}", written, numbers)),
        ("post", (2.5, 0.5), lambda name: _post_delete(maps, name, numbers)),
    ]
    made = [
        Part(kinds=_kinds(kind), protocol=protocol, kept=kept, rate=rates[not kept], work=work(f"{protocol} {kept}"))
        for kind, rates, work in several
        for protocol, kept in itertools.product(PROTOCOLS, (True, False))
    ]
    plain: list[tuple[str, float, Work]] = [
        (PLAIN_PUT, 4, _put(PLAIN_PUT, f"{maps}/{watched('plain')}", written, numbers)),
        (PLAIN_POST, 2, _dry(PLAIN_POST, maps, configmap("never-kept", 0), expecting(201))),
    ]
    made += [Part(kinds=(kind,), protocol="http/1.1", kept=True, rate=rate, work=work, replays=False) for kind, rate, work in plain]
    command = f"{server}/exec?command=echo&command=here&stdout=true"
    beyond = {
        "exec": (("http/1.1",), 0.5, lambda client: client.execute("exec", command, _saying(b"here\n"))),
        "logs": (PROTOCOLS, 1, _get("logs", f"{server}/log?tailLines=5")),
        "webhook": (("http/2",), 2, _dry("webhook", maps, hooked(), unmutated)),
        "metrics": (PROTOCOLS, 1, _get("metrics", METRICS)),
    }
    made += [
        Part(kinds=(kind,), protocol=protocol, kept=True, rate=rate, work=work)
        for kind, (protocols, rate, work) in beyond.items()
        if kind not in ground.left_out
        for protocol in protocols
    ]
    return tuple(made)


def _kinds(kind: str) -> tuple[str, ...]:
    return ("post", "delete") if kind == "post" else (kind,)


def objects() -> tuple[str, ...]:
    """Names of the objects that are there from the beginning."""
    return (watched("plain"), *(watched(f"{protocol} {kept}") for protocol, kept in itertools.product(PROTOCOLS, (True, False))))


def watched(client: str) -> str:
    """The object of one client."""
    return client.replace("/", "-").replace(".", "-").replace(" ", "-").lower()


def planned(made: tuple[Part, ...], ground: Ground, seconds: float) -> Mapping[str, int]:
    """How many requests of each kind there have to be, at least."""
    rates: dict[str, float] = {kind: rate for kind, rate in IN_PODS.items() if kind not in ground.left_out}
    for part in made:
        for kind in part.kinds:
            rates[kind] = rates.get(kind, 0) + part.rate
    rates["watch"] = len(PROTOCOLS) * (rates["put"] + rates[PLAIN_PUT])
    return {kind: int(LEAST * rate * seconds) for kind, rate in sorted(rates.items())}


def _get(kind: str, path: str) -> Work:
    return lambda client: _nothing(client.call(kind, "GET", path))


def _put(kind: str, path: str, written: Written, numbers: Iterator[int]) -> Work:
    """Changes its object; every watch has to see it once."""
    name = path.rpartition("/")[2]

    def work(client: Client) -> None:
        reply = client.call(kind, "PUT", path, configmap(name, next(numbers), **{NAME: "watched"}))
        if reply:
            written.add(int(reply.json()["metadata"]["resourceVersion"]), client.now)

    return work


def _post_delete(maps: str, name: str, numbers: Iterator[int]) -> Work:
    """Of an object with a name that nobody else uses: who has lost the answer asks again, and 409 says that it was made before."""

    def work(client: Client) -> None:
        body = configmap(f"{watched(name)}-{next(numbers)}", 0)
        if client.call("post", "POST", maps, body, wrong=expecting(201, again=(409,)), once=True):
            client.call("delete", "DELETE", f"{maps}/{body['metadata']['name']}", wrong=expecting(200, 202, again=(404,)))

    return work


def _dry(kind: str, maps: str, body: Mapping[str, Any], wrong: Wrong) -> Work:
    """A POST that is looked at and not kept, so that it may be sent twice."""
    return lambda client: _nothing(client.call(kind, "POST", f"{maps}?dryRun=All", body, wrong=wrong, once=True))


def _saying(expected: bytes) -> Wrong:
    def wrong(reply: Reply) -> str | None:
        return None if (reply.status, reply.body) == (200, expected) else told(reply)

    return wrong


def _nothing(_: object) -> None:
    """Forget an answer that was as it should be."""


class Numbers:
    """Ever another number, for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count(1)

    def __iter__(self) -> Numbers:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._count)
