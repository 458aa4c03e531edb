"""Container images as OCI archives: of the same programs the same bytes, whenever and wherever they are packed.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ACCOUNTS = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"  # not compressed: zlib's releases differ in their bytes, and imports are faster


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image holds, and how it is run."""

    reference: str  # by which a Pod asks for it
    arch: str
    programs: Mapping[str, Path]  # absolute path in the image -> file on this machine
    links: Mapping[str, str] = field(default_factory=dict)  # absolute path in the image -> target
    folders: Sequence[str] = ()  # empty ones, beside /tmp
    entrypoint: Sequence[str]
    command: Sequence[str] = ()
    user: str = ""


def pack(image: Image, archive: Path) -> Path:
    """Write one image, of one layer, as an archive that `ctr images import` takes."""
    layer = archive.with_name(f"{archive.name}.layer")
    with layer.open("w+b") as file:
        _layer(image, file)
        file.seek(0)
        layer_digest = hashlib.file_digest(file, "sha256").hexdigest()
        config = _json(_config(image, layer_digest))
        descriptors = {
            "config": _descriptor(_CONFIG, config),
            "layers": [{"mediaType": _LAYER, "digest": f"sha256:{layer_digest}", "size": layer.stat().st_size}],
        }
        manifest = _json({"schemaVersion": 2, "mediaType": _MANIFEST, **descriptors})
        index = _json({"schemaVersion": 2, "manifests": [_named(image, manifest)]})
        with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
            _file(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _file(tar, "index.json", index)
            for blob in (manifest, config):
                _file(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
            file.seek(0)
            _stream(tar, f"blobs/sha256/{layer_digest}", file, layer.stat().st_size, 0o644)
    layer.unlink()
    return archive


def _named(image: Image, manifest: bytes) -> dict[str, object]:
    platform = {"architecture": image.arch, "os": "linux"}
    names = {
        "io.containerd.image.name": image.reference,  # containerd takes the whole reference from here
        "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
    }
    return _descriptor(_MANIFEST, manifest) | {"platform": platform, "annotations": names}


def _config(image: Image, layer: str) -> dict[str, object]:
    run: dict[str, object] = {"Env": [f"PATH={_PATH}"], "WorkingDir": "/", "Entrypoint": [*image.entrypoint]}
    if image.command:
        run["Cmd"] = [*image.command]
    if image.user:
        run["User"] = image.user
    return {
        "architecture": image.arch,
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created_by": "hardway"}],
    }


def _layer(image: Image, file: IO[bytes]) -> None:
    entries: dict[str, Path | str | bytes | None] = {
        **{path: text.encode() for path, text in _ACCOUNTS.items()},
        **image.links,
        **image.programs,
        **dict.fromkeys(("/tmp", *image.folders)),  # noqa: S108 - in the image
    }
    for path in [*entries]:
        entries |= {str(parent): None for parent in PurePosixPath(path).parents if str(parent) != "/" and str(parent) not in entries}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in sorted(entries.items()):
            name = path.lstrip("/")
            if content is None:
                tar.addfile(_info(name, 0o1777 if path == "/tmp" else 0o755, tarfile.DIRTYPE))  # noqa: S108
            elif isinstance(content, str):
                info = _info(name, 0o777, tarfile.SYMTYPE)
                info.linkname = content
                tar.addfile(info)
            elif isinstance(content, bytes):
                _file(tar, name, content)
            else:
                with content.open("rb") as program:
                    _stream(tar, name, program, content.stat().st_size, 0o755)


def _file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _stream(tar, name, io.BytesIO(content), len(content), 0o644)


def _stream(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int, mode: int) -> None:
    info = _info(name, mode, tarfile.REGTYPE)
    info.size = size
    tar.addfile(info, file)


def _info(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    """A member of root's, without a time."""
    info = tarfile.TarInfo(name)
    info.mode, info.type = mode, kind
    return info


def _descriptor(media: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
