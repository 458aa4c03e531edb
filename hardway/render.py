"""Templates and values to Files and Manifests: every component's part on every host, complete before a machine is changed."""

from __future__ import annotations

import hashlib
import re
import traceback
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2

from hardway.components import ALL, installed
from hardway.desired import Blob, Component, Content, File, Manifest, Part, Program, Secret, Template, Text
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.inventory.document import Document
from hardway.observed import Facts
from hardway.pki.credentials import Credentials, placeholders
from hardway.pki.declared import Declarations

ROOT = Path(__file__).parent.parent  # holds units/ and templates/

# What a unit or a config says of the kit's own files. A path that ends in `/`, or goes on with a pattern, is a directory.
KIT_PATH = re.compile(r"/(?:etc/(?:kubernetes|etcd|containerd|cni/net\.d)|opt/cni/bin|usr/local/bin)/[\w./-]*\w(?![\w/*-]|\.\w)")

# What the kit puts into the cluster carries this label; what carries it and is no longer wanted goes.
LABEL, OWNER = "app.kubernetes.io/managed-by", "hardway"

# The head of docs/readers.md.
READERS = """# Who reads which file

Made by `./inv render --readers > docs/readers.md` from `certs/` and the components; a test holds it. In brackets stands how a reader
picks up a change: at its start (`restart`), at its very first start only (`once`), by `systemctl reload` (`reload`), at each TLS
handshake (`handshake`), by watching the file (`watch`, a second or two), by looking again (`poll`, within five minutes).
"""

ANY = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="", clock=0.0, disk_free=0, memory=0)  # for questions that no fact answers


@cache
def environment() -> jinja2.Environment:
    """Jinja, strict: a value that is missing stops the run."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - units and YAML, not HTML; the inventory refuses what could break a line
    )
    # What a Pod's template says of a configuration, so that another one makes other Pods.
    made.filters["sha256"] = lambda text: hashlib.sha256(text.encode()).hexdigest()
    return made


def text(template: Template, **known: object) -> str:
    """The template's text; a missing value is a Mistake that names template and line."""
    try:
        return environment().get_template(template.source).render(**known, **template.values)
    except jinja2.TemplateSyntaxError as error:
        raise Mistake.at(f"{error.name}:{error.lineno}", str(error.message)) from error
    except jinja2.TemplateError as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(template.source)]
        raise Mistake.at(f"{template.source}:{lines[-1] if lines else '?'}", str(error)) from error


def page(source: str, **values: object) -> str:
    """A page of HTML, in which whatever a value says is text."""
    return environment().overlay(autoescape=True).get_template(source).render(**values)


def parts(
    inventory: Inventory,
    host: Host,
    facts: Facts,
    credentials: Credentials,
    programs: Mapping[str, Blob],
    components: Iterable[Component] = ALL,
) -> tuple[Part, ...]:
    """Everything that a host should carry, component by component in the order of installation."""
    mine = [component for component in components if host in component.hosts(inventory)]
    issued = credentials.files(host)
    found = []
    for component in mine:
        drafts = (_resolved(draft, inventory, host, facts, credentials, programs) for draft in component.files(inventory, host, facts))
        pems = (file for file in issued if owner(file, mine) is component)
        own = component.own(inventory)
        # Of two generations only the one that signs: a certificate of the older is replaced before that is trusted no more.
        trusted = credentials.trusts[own.authority].signer.certificate if own else ""
        found.append(Part(component=component.name, unit=component.unit, files=(*drafts, *pems), own=own, trusted=trusted))
    _close(host, found, [file for file in issued if owner(file, mine) is None])
    return tuple(found)


def paths(inventory: Inventory, host: Host, credentials: Credentials) -> frozenset[PurePosixPath]:
    """Every path that `parts` will name; facts may change a file's content, never its path, so a host is asked before that."""
    drafts = (draft for component in installed(inventory, host) for draft in component.files(inventory, host, ANY))
    return frozenset(file.path for file in (*drafts, *credentials.files(host)))


def manifests(component: Component, inventory: Inventory) -> tuple[Manifest, ...]:
    """What a component puts into the cluster, each with our label."""
    if not component.wanted(inventory):
        return ()
    found = (
        _parsed(one, template.source)
        for template in component.manifests(inventory)
        for one in re.split(r"^---\n", text(template, inventory=inventory), flags=re.MULTILINE)
    )
    return tuple(Manifest(object={**one, "metadata": _labelled(one["metadata"])}) for one in found)


@lru_cache(maxsize=256)  # a Node for each worker, in every survey
def _parsed(text: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = Document.parse(text, name=name).data
    return found


def _labelled(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**metadata, "labels": {**metadata.get("labels", {}), LABEL: OWNER}}


def admin_kubeconfig(inventory: Inventory, credentials: Credentials) -> Secret:
    """The operator's own access, whole in one file."""
    values = {
        "certificate_authority": b64encode(credentials.trusts["kubernetes"].bundle.encode()).decode(),
        "client": b64encode(credentials.operator("admin").data).decode(),
    }
    return Secret(text(Template(source="templates/admin.kubeconfig.yaml", values=values, secret=True), inventory=inventory).encode())


def owner(file: File[Content], components: Iterable[Component]) -> Component | None:
    """The first component whose unit or program reads a file."""
    readers = {use.reader for use in file.uses}
    return next((c for c in components if c.unit in readers or readers & set(c.programs)), None)


def _resolved(
    draft: File[Template | Program], inventory: Inventory, host: Host, facts: Facts, credentials: Credentials, programs: Mapping[str, Blob]
) -> File[Content]:
    content: Content
    if isinstance(draft.content, Program):
        content = programs[draft.content.name]
    else:
        # Only a template that is marked as secret is given any.
        keys = {"encryption_keys": credentials.encryption_keys} if draft.content.secret else {}
        rendered = text(draft.content, inventory=inventory, host=host, facts=facts, **keys)
        content = Secret(rendered.encode()) if draft.content.secret else Text(rendered)
    return File(path=draft.path, content=content, uses=draft.uses, owner=draft.owner, mode=draft.mode)


def _close(host: Host, found: list[Part], orphans: list[File[Content]]) -> None:
    """Close the world: what a unit's files name is a File that names this unit as a reader, and every File has a reader (4)."""
    files: dict[PurePosixPath, File[Content]] = {}
    wrong = [Finding(where=f"{host.name} {file.path}", what="nothing on this host reads it") for file in orphans]
    for part in found:
        for file in part.files:
            if file.path in files:
                wrong.append(Finding(where=f"{host.name} {file.path}", what="two components write it"))
            if not file.uses:
                wrong.append(Finding(where=f"{host.name} {file.path}", what="nothing reads it"))
            files[file.path] = file
    for file in files.values():
        units = {use.reader for use in file.uses if use.reader.endswith(".service")}
        for path in _named(file):
            if path not in files:
                wrong.append(Finding(where=f"{host.name} {file.path}", what=f"names {path}, which no component writes"))
                continue
            missing = units - {use.reader for use in files[path].uses}
            wrong += [
                Finding(where=f"{host.name} {path}", what=f"{unit} reads it by {file.path}, but is not declared as a reader")
                for unit in missing
            ]
    if wrong:
        raise Mistake(*wrong)


def _named(file: File[Content]) -> set[PurePosixPath]:
    if not isinstance(file.content, Text) or "BEGIN CERTIFICATE" in file.content.text:
        return set()
    lines = (line for line in file.content.text.splitlines() if not line.lstrip().startswith("#"))
    return {PurePosixPath(match) for line in lines for match in KIT_PATH.findall(line)}


def tree(declarations: Declarations, inventory: Inventory, host: Host) -> dict[PurePosixPath, str]:
    """A host's files as text for people, from the inventory alone: placeholders for keys, certificates and binaries.

    `/files` lists each with mode, owner and who reads it.
    """
    files = _with_placeholders(declarations, inventory, host)
    texts = {file.path: _shown(file.content) for file in files}
    rows = (f"{file.mode:04o} {file.owner} {file.path} {' '.join(f'{u.reader}:{u.pickup.value}' for u in file.uses)}\n" for file in files)
    return {PurePosixPath("/files"): "".join(rows), **texts}


def in_cluster(inventory: Inventory) -> str:
    """What components put into the cluster, in their order, as one stream of YAML for people."""
    wanted = [(component, template) for component in ALL if component.wanted(inventory) for template in component.manifests(inventory)]
    return "---\n".join(f"# {component.name}\n{text(template, inventory=inventory)}" for component, template in wanted)


def readers(declarations: Declarations, inventory: Inventory) -> str:
    """Which file is where, who may read it, and who reads it how: a table in Markdown for each role."""
    text = ""
    for role in ("controller", "worker", "loadbalancer"):
        for host in inventory.on(role)[:1]:
            text += f"\n## On each {role}\n\n| file | may be read by | is read by |\n|---|---|---|\n"
            for file in _with_placeholders(declarations, inventory, host):
                group = file.owner.partition(":")[2]
                may = "everybody" if file.mode & 0o004 else f"root, {group}" if file.mode & 0o040 else "root"
                uses = ", ".join(f"{use.reader} ({use.pickup.value})" for use in file.uses)
                text += f"| `{file.path}` | {may} | {uses} |\n"
    return text


def _with_placeholders(declarations: Declarations, inventory: Inventory, host: Host) -> list[File[Content]]:
    """A host's files by path, from the inventory alone."""
    programs = {name: Blob(sha256="0" * 64, size=0, local=Path(name)) for component in ALL for name in component.programs}
    found = parts(inventory, host, ANY, placeholders(declarations, inventory), programs)
    return sorted((file for part in found for file in part.files), key=lambda file: file.path)


def _shown(content: Content) -> str:
    match content:
        case Text():
            return content.text
        case Secret():
            return content.data.decode()
        case Blob():
            return f"(the program {content.local})\n"
