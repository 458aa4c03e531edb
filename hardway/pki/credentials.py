"""What state/ holds, as the files of each host; or the same files with placeholders, for what may be read by people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

from hardway.desired import Content, File, Pickup, Secret, Text, Use
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import kept
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair, private_pem, public_pem
from hardway.pki.request import Request, requests
from hardway.pki.trust import Generation, Trust
from hardway.state import PKI, State

_STRENGTH = (Pickup.HANDSHAKE, Pickup.WATCH, Pickup.POLL, Pickup.RELOAD, Pickup.RESTART)
_KEY = "(a private key: not shown)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionKey:
    """A key of encryption at rest."""

    name: str
    secret: str = field(repr=False)  # base64, as EncryptionConfiguration takes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Everything of the PKI that a host, a component or the operator needs."""

    trusts: Mapping[str, Trust]  # by authority
    encryption_keys: tuple[EncryptionKey, ...]  # the first one writes, all of them read
    placed: Mapping[str, tuple[File[Content], ...]] = field(repr=False)  # by host
    serials: Mapping[tuple[str, str | None], int] = field(repr=False)
    operators: Mapping[str, Secret] = field(repr=False)

    def files(self, host: Host) -> tuple[File[Content], ...]:
        """The keys, certificates and bundles of a host, by path."""
        return self.placed.get(host.name, ())

    def serial(self, certificate: str, host: Host | None = None) -> int:
        """The serial number of a declared certificate; without a host the operator's."""
        return self.serials[certificate, host.name if host else None]

    def operator(self, certificate: str) -> Secret:
        """Certificate and key that stay with the operator."""
        return self.operators[certificate]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What goes into the files, by the names in certs/."""

    pairs: Mapping[str, Content]  # by their file in state/
    trusts: Mapping[str, Trust]
    signing: Mapping[str, Content]
    private: Mapping[str, Content]
    public: Mapping[str, str]


def credentials(declarations: Declarations, inventory: Inventory, state: State) -> Credentials:
    """Read what `ensure` has written."""
    wanted = requests(declarations, inventory)
    names = [authority.authority for authority in declarations.wanted(inventory)]
    found = {name: kept.generations(state, name) for name in names}
    leaves = {name: kept.leaves(state, name) for name in names}
    keys = {name: kept.keys(state, name) for name in declarations.keys}
    pairs = {request.file: leaves[request.authority].get(request.file, "is missing") for request in wanted}
    wrong = {file: str(pair) for file, pair in pairs.items() if not isinstance(pair, Pair)}
    wrong |= {f"pki/{name}": "is missing" for name, there in (*found.items(), *keys.items()) if not there}
    if wrong and not state.glob(PKI):
        step = "`./inv push` makes all that this cluster needs; if it is there already, bring its state/ back: ./inv state.restore"
        raise Mistake.at(state.where("pki"), "there is nothing", step)
    if wrong:
        raise Mistake(*(Finding(where=state.where(file), what=what, next_step="`./inv push` issues it") for file, what in wrong.items()))
    good = {file: pair for file, pair in pairs.items() if isinstance(pair, Pair)}
    trusts = {name: kept.trust(found[name], leaves[name].values(), kept.generations(state, name, "retired")) for name in names}
    key_pairs = {one.key_pair: [kept.private(state, file) for file in keys[one.key_pair]] for one in declarations.key_pairs}
    upcoming = {name: kept.upcoming(state, name) for name in declarations.keys}
    verifying = {name: [*several, *(kept.private(state, file) for file in upcoming[name])] for name, several in key_pairs.items()}
    material = _Material(
        pairs={file: Secret(pair.pem) for file, pair in good.items()},
        trusts=trusts,
        signing={name: Secret(found[name][trust.signer].pem) for name, trust in trusts.items()},
        private={name: Secret(private_pem(several[-1])) for name, several in key_pairs.items()},
        public={name: "".join(public_pem(key).decode() for key in several) for name, several in verifying.items()},
    )
    return Credentials(
        trusts=trusts,
        encryption_keys=tuple(
            EncryptionKey(name=PurePosixPath(file).name.replace("next-", "key-"), secret=kept.encryption_key(state, file))
            for file in (*reversed(keys.get("encryption", ())), *upcoming.get("encryption", ()))
        ),
        placed=_placed(declarations, inventory, wanted, material),
        serials={(request.certificate, request.host): good[request.file].certificate.serial_number for request in wanted},
        operators={request.certificate: Secret(good[request.file].pem) for request in wanted if request.host is None},
    )


def placeholders(declarations: Declarations, inventory: Inventory) -> Credentials:
    """The same files without any state: keys as one fixed line, certificates as the text of what is declared."""
    wanted = requests(declarations, inventory)
    authorities = declarations.wanted(inventory)
    trusts = {}
    for authority in authorities:
        subject = f"CN={authority.common_name}-<generation>"
        text = f"certificate of authority {authority.authority}\n  subject: {subject}\n  days: {authority.days}\n"
        epoch = datetime.fromtimestamp(0, UTC)
        one = Generation(
            authority=authority.authority,
            name="<generation>",
            common_name=f"{authority.common_name}-<generation>",
            ski="",
            not_before=epoch,
            not_after=epoch,
            certificate=text,
        )
        trusts[authority.authority] = Trust(trusted=(one,), signer=one)
    material = _Material(
        pairs={request.file: Text(_described(request, trusts[request.authority].signer.common_name) + _KEY) for request in wanted},
        trusts=trusts,
        signing={name: Text(trust.bundle + _KEY) for name, trust in trusts.items()},
        private={one.key_pair: Text(_KEY) for one in declarations.key_pairs},
        public={one.key_pair: f"public keys of {one.key_pair}\n" for one in declarations.key_pairs},
    )
    return Credentials(
        trusts=trusts,
        encryption_keys=(EncryptionKey(name="key-<generation>", secret=_KEY.strip()),) if declarations.encryption else (),
        placed=_placed(declarations, inventory, wanted, material),
        serials={(request.certificate, request.host): 0 for request in wanted},
        operators={request.certificate: Secret(_KEY.encode()) for request in wanted if request.host is None},
    )


def _described(request: Request, issuer: str) -> str:
    lines = [f"certificate {request.certificate}", f"  subject: {request.subject}", f"  issuer: CN={issuer}"]
    lines.append(f"  usages: {', '.join(request.usages)}")
    lines.extend(f"  name: {san}" for san in request.sans)
    lines.append(f"  key: {'EC P-256' if request.keys == 'ec' else 'RSA 2048'}")
    lines.append(f"  days: {request.days}")
    return "\n".join(lines) + "\n"


def _placed(
    declarations: Declarations, inventory: Inventory, wanted: Iterable[Request], material: _Material
) -> dict[str, tuple[File[Content], ...]]:
    """Lay the material out over the hosts, as declared."""
    pairs = {(request.certificate, request.host): material.pairs[request.file] for request in wanted}
    authorities = declarations.wanted(inventory)
    placed = {}
    for host in inventory.hosts:
        files: dict[PurePosixPath, File[Content]] = {}
        for authority in authorities:
            for name, one in authority.certificates.items():
                if one.role in host.roles and one.path:
                    files[one.path] = _secret(one.path, pairs[name, host.name], one.owner, one.read_by)
        secrets = [(place, material.signing[authority.authority]) for authority in authorities for place in authority.signs_in]
        secrets += [(place, material.private[one.key_pair]) for one in declarations.key_pairs for place in one.private_in]
        for place, content in secrets:
            if place.role in host.roles:
                files[place.path] = _secret(place.path, content, place.owner, place.read_by)
        trusted = [(place, material.trusts[authority.authority]) for authority in authorities for place in authority.trusted_in]
        bundles = [(place, trust.chained if place.up_to_root else trust.bundle) for place, trust in trusted]
        bundles += [(place, material.public[one.key_pair]) for one in declarations.key_pairs for place in one.public_in]
        for place, text in bundles:
            if place.role in host.roles:
                files[place.path] = _bundle(place.path, text, place.read_by, files.get(place.path))
        placed[host.name] = tuple(files[path] for path in sorted(files))
    return placed


def _secret(path: PurePosixPath, content: Content, owner: str, read_by: Mapping[str, Pickup]) -> File[Content]:
    """A file that one daemon's group may read, or root alone."""
    mode = 0o600 if owner.endswith(":root") else 0o640
    return File(path=path, content=content, uses=_uses(read_by), owner=owner, mode=mode)


def _bundle(path: PurePosixPath, text: str, read_by: Mapping[str, Pickup], before: File[Content] | None) -> File[Content]:
    """A file that everybody may read; what another authority put there before stays in it."""
    if before is None:
        return File(path=path, content=Text(text), uses=_uses(read_by))
    joined = (before.content.text if isinstance(before.content, Text) else "") + text
    return File(path=path, content=Text(joined), uses=_uses(read_by, *before.uses))


def _uses(read_by: Mapping[str, Pickup], *before: Use) -> tuple[Use, ...]:
    """One use for each reader: of two ways to pick a change up, the one that is surely enough."""
    strongest = {use.reader: use.pickup for use in before}
    for reader, pickup in read_by.items():
        strongest[reader] = max(pickup, strongest.get(reader, pickup), key=_STRENGTH.index)
    return tuple(Use(reader=reader, pickup=pickup) for reader, pickup in sorted(strongest.items()))
