"""The local cache: two runs at once, files that change behind its back, a folder that cannot be written."""

from __future__ import annotations

import threading

import pytest

from hardway.binaries import Binary
from hardway.errors import Mistake
from tests.binaries.release_site import KUBE, Operator, ReleaseSite

PATH = f"{KUBE}/kubectl"


def test_a_file_that_changed_is_refused_removed_and_brought_anew(operator: Operator, kubectl: bytes) -> None:
    path = operator.bring("kubectl")["kubectl"].path
    path.write_bytes(b"something else")

    with pytest.raises(Mistake, match="was changed after it was brought here and has been removed"):
        operator.bring("kubectl")

    assert operator.left() == []
    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl


def test_a_file_that_was_only_touched_is_taken(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    brought = operator.bring("kubectl")["kubectl"]
    brought.path.write_bytes(kubectl)
    release_site.requests.clear()

    again = operator.bring("kubectl")["kubectl"]

    assert (again.source, again.sha256) == ("local cache", brought.sha256)
    assert release_site.requests == []


def test_a_record_that_cannot_be_read_counts_as_none(operator: Operator, kubectl: bytes) -> None:
    path = operator.bring("kubectl")["kubectl"].path
    path.with_name("kubectl.json").write_text("{")

    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl


@pytest.mark.usefixtures("kubectl")
def test_two_runs_at_once_download_once(operator: Operator, release_site: ReleaseSite) -> None:
    second = Operator(home=operator.home, mirror=operator.mirror, upstream=operator.upstream)
    release_site.stalls.add(PATH)
    brought: list[Binary] = []
    threads = [threading.Thread(target=lambda who=who: brought.append(who.bring("kubectl")["kubectl"])) for who in (operator, second)]

    threads[0].start()
    assert release_site.stalled.wait(20)
    waiting = threading.Event()
    second.told = _Told(waiting)
    threads[1].start()
    assert waiting.wait(20)
    release_site.stalls.clear()
    release_site.go_on.set()
    for thread in threads:
        thread.join()

    assert {binary.sha256 for binary in brought} == {brought[0].sha256}
    assert sorted(binary.source for binary in brought) == [f"{release_site.url}{PATH}", "local cache"]
    assert len(release_site.asked(f"{PATH}.sha256")) == 1


class _Told(list[str]):
    """Lines that were told; says when one of them is about waiting."""

    def __init__(self, waiting: threading.Event) -> None:
        super().__init__()
        self.waiting = waiting

    def append(self, line: str) -> None:
        super().append(line)
        if "another run" in line:
            self.waiting.set()


@pytest.mark.usefixtures("kubectl")
def test_a_cache_that_cannot_be_written_is_a_mistake(operator: Operator) -> None:
    operator.cache.write_text("no folder")

    with pytest.raises(Mistake, match="cache"):
        operator.bring("kubectl")


def test_a_program_that_nobody_declares_is_a_mistake(operator: Operator) -> None:
    with pytest.raises(Mistake, match=r"^kubeless: no upstream project declares it; known are agnhost, "):
        operator.bring("kubeless")
