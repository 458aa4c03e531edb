"""The images that lab hosts start from, each made once by mmdebstrap and kept in a cache: a directory, or a disk with its kernel."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hardway.errors import Mistake
from hardway.lab.recipes import SUITE, Recipe

DISK = "8G"  # of a VM; a sparse file, which takes what is written to it


def sources(files: Mapping[str, str]) -> dict[str, str]:
    """Of apt's source files (path -> text), what names the Debian archive that the image is made from."""
    suites = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    found = {}
    for path, text in files.items():
        if path.endswith(".sources"):
            stanzas = []
            for stanza in text.split("\n\n"):
                lines = [line for line in stanza.splitlines() if not line.startswith("#")]
                fields = {key.strip().lower(): value.split() for key, _, value in (line.partition(":") for line in lines)}
                if "deb" in fields.get("types", []) and suites & set(fields.get("suites", [])) and "main" in fields.get("components", []):
                    stanzas.append("\n".join(lines))
            kept = "\n\n".join(stanzas)
        else:
            lines = [line for line in text.splitlines() if line.startswith("deb ")]
            kept = "\n".join(line for line in lines if suites & set(line.split()) and "main" in line.split())
        if kept:
            found[path] = kept + "\n"
    return found


def ensure(recipe: Recipe, cache: Path, tell: Callable[[str], None]) -> Path:
    """The directory that is the image, or has disk, vmlinuz and initrd; made if the cache has none of this recipe."""
    image = cache / recipe.digest()
    if image.is_dir():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two labs at once want one image
        if not image.is_dir():
            tell(f"lab: making the image of {recipe.name}, once (half a minute or more)")
            part = image.with_suffix(".part")
            if part.exists():
                shutil.rmtree(part)
            if recipe.form == "disk":
                part.mkdir()
                _bootstrap(recipe, part / "root", tell)
                _disk(part / "root", part)
            else:
                _bootstrap(recipe, part, tell)
            part.rename(image)
    return image


def _disk(root: Path, target: Path) -> None:
    """Turn a root directory into a disk, with the kernel and the initrd beside it."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, target / "disk", DISK], check=True, capture_output=True)
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        (found,) = (root / "boot").glob(pattern)
        shutil.copy(found, target / name)
    shutil.rmtree(root)


def _bootstrap(recipe: Recipe, target: Path, tell: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="hardway-") as name:
        work = Path(name)
        mirrors = []
        for number, (path, text) in enumerate(sources(_apt_files()).items()):
            mirror = work / f"{number}{Path(path).suffix}"
            mirror.write_text(text)
            mirrors.append(str(mirror))
        for relative, text in recipe.files.items():
            file = work / "files" / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        hook = work / "hook"
        hook.write_text(recipe.hook)
        argv = [
            # Killed with us, in namespaces of its own: no half-built image goes on growing, no mount stays.
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"),
            *("mmdebstrap", "--mode=root", *recipe.options),
            *(f"--aptopt={line}" for line in _proxies()),
            f"--essential-hook=copy-in {work / 'files' / 'etc'} /",
            f'--customize-hook=sh {hook} "$1"',
            *(SUITE, str(target), *mirrors),
        ]
        said = []
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": name}
        ) as mmdebstrap:
            for line in mmdebstrap.stderr or ():
                said.append(line.strip())
                if line.startswith("I: "):
                    tell(f"lab: image: {line[3:].strip()}")
    if mmdebstrap.returncode:
        last = [line for line in said if line.startswith("E:")] or said[-1:]
        raise Mistake.at(
            "lab", f"mmdebstrap failed: {' '.join(last)}", "see that apt's sources answer (`apt-get update`), then run it again"
        )


def _apt_files() -> dict[str, str]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return {str(file): file.read_text() for file in files if file.suffix in {".list", ".sources"} and file.is_file()}


def _proxies() -> list[str]:
    if not shutil.which("apt-config"):
        return []
    lines = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if line.startswith("Acquire::http") and "proxy" in line.lower()]
