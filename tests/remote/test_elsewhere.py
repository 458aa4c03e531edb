"""A cluster that a kubeconfig leads to is asked over kubectl, and over a socket that goes with the run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.elsewhere import NOWHERE, Context, elsewhere

CONTEXT = Context(name="there", server="https://api.example.com/k8s/x", user="ann", namespace="theirs")
VIEW = {
    "clusters": [{"name": "c", "cluster": {"server": CONTEXT.server}}],
    "contexts": [{"name": "there", "context": {"cluster": "c", "user": "ann", "namespace": "theirs"}}],
}
ANSWERS: dict[str, Any] = {
    "GET /version": [200, {"gitVersion": "v1.36.1"}],
    "POST /apis/authentication.k8s.io/v1/selfsubjectreviews": [201, {"status": {"userInfo": {"username": "ann@example.com"}}}],
}
# `config view` prints what stands beside it, `proxy` serves answers on its socket.
KUBECTL = """#!{python}
import json, pathlib, socketserver, sys
from http.server import BaseHTTPRequestHandler
here = pathlib.Path(__file__).parent
(here / "argv").write_text(" ".join(sys.argv[1:]))
if "view" in sys.argv:
    view = (here / "view").read_text()
    sys.exit("error: no context exists with the name" if not view else print(view))
if "broken" in str(sys.argv):
    sys.exit("error: open broken: no such file")
answers = json.loads((here / "answers").read_text())
class Handler(BaseHTTPRequestHandler):
    def reply(self):
        status, document = answers.get(self.command + " " + self.path, [404, {{}}])
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = reply
    def log_message(self, *_): pass
    def address_string(self): return "nobody"
path = next(word.partition("=")[2] for word in sys.argv if word.startswith("--unix-socket="))
server = socketserver.ThreadingUnixStreamServer(path, Handler)
print("Starting to serve on", path, flush=True)
server.serve_forever()
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    path = tmp_path / "kubectl"
    path.write_text(KUBECTL.format(python=sys.executable))
    path.chmod(0o755)
    (tmp_path / "view").write_text(json.dumps(VIEW))
    (tmp_path / "answers").write_text(json.dumps(ANSWERS))
    return path


def test_a_context_is_read_as_kubectl_reads_it(kubectl: Path) -> None:
    assert Context.read(kubectl, Path("F"), "there") == CONTEXT
    assert (kubectl.parent / "argv").read_text() == "--kubeconfig=F --context=there config view --minify --output=json"


@pytest.mark.parametrize(
    ("view", "message"), [("", "F: no context exists with the name"), ('{"clusters": null, "contexts": null}', "F: it has no current")]
)
def test_a_context_that_is_not_there_is_a_mistake(kubectl: Path, view: str, message: str) -> None:
    (kubectl.parent / "view").write_text(view)

    with pytest.raises(Mistake, match=message):
        Context.read(kubectl, Path("F"))


def test_a_cluster_is_asked_who_we_are_and_what_it_is(kubectl: Path) -> None:
    with elsewhere(kubectl, Path("F"), CONTEXT) as there:
        assert there.meet() == "ann@example.com"
        assert (there.inventory.cluster, there.inventory.server) == ("there", "https://api.example.com:443")
        assert (there.inventory.versions.kubernetes, there.inventory.hosts) == ("1.36.1", ())
        assert there.api("/nothing").status == 404

    socket = (kubectl.parent / "argv").read_text().partition("--unix-socket=")[2].split()[0]
    assert not Path(socket).exists()


@pytest.mark.parametrize(
    ("request_", "message"),
    [("GET /version", "it answers 401: "), ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", "it does not say who we are: 401")],
)
def test_a_cluster_that_does_not_let_us_in_is_a_mistake(kubectl: Path, request_: str, message: str) -> None:
    (kubectl.parent / "answers").write_text(json.dumps({**ANSWERS, request_: [401, {"message": "Unauthorized"}]}))

    with elsewhere(kubectl, Path("F"), CONTEXT) as there, pytest.raises(Mistake, match=message):
        there.meet()


def test_a_kubectl_that_cannot_begin_is_a_mistake_with_its_words(kubectl: Path) -> None:
    with pytest.raises(Mistake, match="broken: open broken: no such file"), elsewhere(kubectl, Path("broken"), CONTEXT):
        pass


def test_hosts_cannot_be_asked(kubectl: Path) -> None:
    host = Host(name="theirs", address=NOWHERE, roles=frozenset())

    with elsewhere(kubectl, Path("F"), CONTEXT) as there:
        for ask in (
            lambda: there.run(host, "true"),
            lambda: there.etcd(host, "/health"),
            lambda: there.local(host, 1, "/"),
            lambda: there.served(host, 1),
            lambda: there.shown(host, 1),
            lambda: there.issued("x", host),
            lambda: there.signer("etcd"),
            lambda: there.visit("https://x", "/"),
            lambda: there.api("/", host=host),
        ):
            with pytest.raises(Mistake, match="only its API is known"):
                ask()
