"""The Go module that a project is built from: committed in `upstream/`, or derived the same way for another version."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardway.binaries.upstream import Project
from hardway.errors import Mistake

OLDEST_GO = (1, 26)
LDFLAGS = "-s -w"
_UNSTABLE = ("GOFLAGS", "GOEXPERIMENT", "GODEBUG", "GOWORK", "GOBIN", "GOTMPDIR", "CC", "PKG_CONFIG", "PKG_CONFIG_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a build starts from."""

    project: Project
    version: str
    upstream: Path  # the project's folder in the repository
    folder: Path  # of go.mod and go.sum
    committed: bool

    @classmethod
    def of(cls, project: Project, version: str, upstream: Path, cache: Path) -> Source:
        """The committed module if it is of that version, else the place of the derived one."""
        own = upstream / project.name
        wanted = rf"^\s*{re.escape(project.modules[0])} v{re.escape(version)}( //.*)?$"
        committed = re.search(wanted, (own / "go.mod").read_text(), re.MULTILINE) is not None
        folder = own if committed else cache / project.name / version / "module"
        return cls(project=project, version=version, upstream=own, folder=folder, committed=committed)

    @property
    def key(self) -> str:
        """Changes when what is built changes; the shelf's name for it."""
        recipe = [self.version, LDFLAGS, *self.project.modules, *sorted(self.project.stamps.items()), *self.project.tags]
        sums = [(self.folder / name).read_text() for name in ("go.mod", "go.sum")] if self.committed else ["derived"]
        return f"go-{hashlib.sha256(json.dumps([recipe, sums]).encode()).hexdigest()[:12]}"

    @property
    def module(self) -> str:
        """The first module with its version, as `go` writes it."""
        return f"{self.project.modules[0]}@v{self.version}"

    def derive(self, tell: Callable[[str], None]) -> None:
        """Write go.mod and go.sum for a version that has none committed; nothing if they are there."""
        if self.committed or self._is_derived():
            return
        tell(f"{self.project.name} {self.version}: no go.sum of it is committed; resolving its modules by the Go module proxy")
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        own = json.loads(go("mod", "edit", "-json", self.download(new)["GoMod"], cwd=new))
        (new / "go.mod").write_text(go_mod(self.project, self.version, own))
        go("mod", "tidy", cwd=new)
        shutil.rmtree(self.folder, ignore_errors=True)
        new.rename(self.folder)

    def _is_derived(self) -> bool:
        """Whether it was written before, for all that the project's programs are now."""
        if not (self.folder / "go.sum").exists():
            return False
        words = set((self.folder / "go.mod").read_text().split())
        return words >= set(self.project.packages)

    def download(self, cwd: Path | None = None) -> dict[str, Any]:
        """Where the module cache has the first module and what the proxy says of it."""
        return dict(json.loads(go("mod", "download", "-json", self.module, cwd=cwd or self.folder)))

    def file(self, program: str) -> Path:
        """The C file of a program, in the module cache."""
        return Path(self.download()["Dir"], self.project.programs[program])

    def stamps(self) -> dict[str, str]:
        """Values for the linker: from what the module proxy says of the version, never from the clock."""
        info = json.loads(Path(self.download()["Info"]).read_text())
        major, minor, *_ = self.version.split(".")
        values = {
            "version": self.version,
            "major": major,
            "minor": minor,
            "commit": info.get("Origin", {}).get("Hash", ""),  # some proxies do not tell it
            "date": info.get("Time", "1970-01-01T00:00:00Z"),
        }
        return {variable: value.format_map(values) for variable, value in self.project.stamps.items()}


def go_mod(project: Project, version: str, own: Mapping[str, Any]) -> str:
    """A go.mod whose tools are a project's programs; `own` is the project's own go.mod, as `go mod edit -json` prints it."""
    # Kubernetes' go.mod requires its staging repositories at v0.0.0 and replaces them by folders, which a module that is
    # required does not bring: their published versions stand in. https://github.com/kubernetes/kubernetes/issues/79384
    staging = [wanted["Path"] for wanted in own.get("Require") or () if wanted["Version"] == "v0.0.0"]
    blocks = {
        "require": [f"{module} v{version}" for module in project.modules],
        "tool": project.packages,
        "replace": [f"{module} => {module} v0.{version.partition('.')[2]}" for module in staging],
    }
    lines = [f"module hardway.local/upstream/{project.name}", f"go {own['Go']}"]
    lines += [f"godebug {setting['Key']}={setting['Value']}" for setting in own.get("GoDebug") or ()]
    lines += ["\n\t".join([f"{verb} (", *block]) + "\n)" for verb, block in blocks.items() if block]
    return "\n\n".join(lines) + "\n"


def environment(arch: str = "amd64") -> dict[str, str]:
    """The operator's environment without what changes the bytes of a build, and with what fixes them."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNSTABLE and not name.startswith("CGO_")}
    # GOFLAGS is set, not emptied: an empty one means that of `go env -w`.
    fixed = {"GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off", "GOOS": "linux", "GOARCH": arch}
    return kept | fixed | {"CGO_ENABLED": "0", "GOAMD64": "v1", "GOARM64": "v8.0"}


def go(*argv: str, cwd: Path) -> str:
    """Standard output of a `go` command; a Mistake with its last line if it fails."""
    # `go mod tidy` and `download` may write go.sum; a build may not.
    env = environment() | {"GOFLAGS": "-buildvcs=false"}
    try:
        return subprocess.run(["go", *argv], cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise _no_go("go: not found") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or f"exit code {error.returncode}").splitlines()[-3:]
        raise Mistake.at(
            f"go {' '.join(argv[:2])}", " ".join(last), "check the version in the inventory, GOPROXY and the network"
        ) from error


def compiler(cwd: Path) -> str:
    """The Go release that would build in a folder, such as go1.26.8; a Mistake if it is missing or too old."""
    said = go("version", cwd=cwd)
    found = re.search(r"go(\d+)\.(\d+)\S*", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
        raise _no_go(f"{said.strip()} is too old")
    return found[0]


def _no_go(what: str) -> Mistake:
    return Mistake.at(
        "go",
        f"{what}; a build from Go modules needs Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or later",
        "unpack https://go.dev/dl/ to /usr/local/go and put /usr/local/go/bin in PATH, or set binaries.mirror",
    )
