"""The process that keeps the load up, so that whoever runs beside it is not slowed down: settings in, news and a report out."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from hardway.errors import Mistake
from hardway.traffic.client import Door
from hardway.traffic.identity import Identities, viewed
from hardway.traffic.load import Load
from hardway.traffic.settings import Settings


def main() -> int:
    """Until its standard input says `finish`, or ends because nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever has started it decides
    settings = Settings.read(sys.stdin.readline())
    try:
        kubeconfig = Path(settings.kubeconfig)
        identities = Identities(kubeconfig, viewed(Path(settings.kubectl), kubeconfig, settings.context))
        with Load(settings, Door(identities=identities, hosts=settings.hosts), lambda text: _say(tell=text)) as load:
            load.begin()
            _say(begun=True)
            done = threading.Event()
            news = threading.Thread(target=_news, args=(load, done), daemon=True)
            news.start()
            word = sys.stdin.readline().strip()
            done.set()
            if word == "finish":
                _say(report=load.finish().document)
    except Mistake as mistake:
        _say(mistake=[[finding.where, finding.what, finding.next_step] for finding in mistake.findings])
        return 1
    return 0


def _news(load: Load, done: threading.Event) -> None:
    while not done.wait(1):
        _say(now=load.now)


def _say(**what: Any) -> None:
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # nobody listens: what is left to do is to put away


if __name__ == "__main__":
    sys.exit(main())
