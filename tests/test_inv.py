"""The shell part of ./inv: a real sh and a real Python once, else programs of the tests' own in an empty PATH."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ["sh", "cmp", "cp", "mv", "rm", "readlink", "grep", "tail", "mkdir", "chmod", "cat", "flock"]
PYTHON = """\
#!/bin/sh
# As much of Python as inv asks for; it writes down what it was asked, and fails where a file says so.
echo "$(basename "$0") $*" >>"$LOG"
case $1 in
-c) case $2 in
    *version_info\\ *) test ! -e "$FAKES/old" ;;
    *ensurepip*) test ! -e "$FAKES/no-ensurepip" ;;
    *) echo python3.11-venv ;;
    esac ;;
--version) echo Python 3.9.2 ;;
-m) case $2 in
    venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    pip) test ! -e "$FAKES/no-index" ;;
    esac ;;
*) shift; for word; do echo "<$word>"; done ;;
esac
"""
APT = """\
#!/bin/sh
echo "apt-get $*" >>"$LOG"
case "$*" in
*update*) : >"$FAKES/lists" ;;
*install*) test -e "$FAKES/lists" || exit 100
    rm -f "$FAKES/no-ensurepip" "$FAKES/old" ;;
esac
"""


class Machine:
    """A checkout and the programs that a machine has."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "a checkout"
        self.fakes = tmp_path / "fakes"
        self.log = tmp_path / "log"
        self.root.mkdir()
        self.fakes.mkdir()
        for name in ("inv", "inventory.yaml"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "requirements.lock").write_text("")
        for tool in [*TOOLS, "basename"]:
            if found := shutil.which(tool):
                (self.fakes / tool).symlink_to(found)
        self.program("python3", PYTHON)
        self.user(1000)

    def program(self, name: str, text: str) -> None:
        (self.fakes / name).write_text(text)
        (self.fakes / name).chmod(0o755)

    def user(self, number: int) -> None:
        self.program("id", f"#!/bin/sh\necho {number}\n")

    def says(self, what: str) -> None:
        (self.fakes / what).touch()

    def inv(self, *argv: str, program: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.fakes), "FAKES": str(self.fakes), "LOG": str(self.log)}
        return subprocess.run([program or self.root / "inv", *argv], env=env, cwd=cwd, capture_output=True, text=True, check=False)

    def asked(self) -> str:
        asked = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return asked


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_environment_is_made_once_from_the_lock_with_hashes(machine: Machine) -> None:
    first = machine.inv("a b", "", "--", "$x")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "<a b>\n<>\n<-->\n<$x>\n"
    assert first.stderr == "* making .venv from requirements.lock, once (about half a minute)\n"
    assert "-m pip install --require-hashes --no-input" in machine.asked()

    second = machine.inv("again")
    assert (second.stdout, second.stderr) == ("<again>\n", "")
    assert "pip" not in machine.asked()


def test_another_lock_makes_it_anew(machine: Machine) -> None:
    machine.inv()
    (machine.root / "requirements.lock").write_text("# other\n")
    machine.asked()

    assert machine.inv().returncode == 0
    assert "-m venv --clear" in machine.asked()


def test_what_failed_or_was_killed_half_way_is_made_anew(machine: Machine) -> None:
    machine.says("no-index")
    failed = machine.inv()
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: pip could not install requirements.lock; is a package index reachable")
    machine.asked()

    (machine.fakes / "no-index").unlink()
    assert machine.inv("x").stdout == "<x>\n"
    assert "-m venv --clear" in machine.asked()


def test_a_second_one_waits_for_the_first_and_makes_nothing(machine: Machine) -> None:
    with (machine.root / "requirements.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the first has it
        env = {"PATH": str(machine.fakes), "FAKES": str(machine.fakes), "LOG": str(machine.log)}
        second = subprocess.Popen([machine.root / "inv", "x"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert second.stderr
        assert second.stderr.readline() == "* another ./inv is making .venv; waiting for it\n"
        (machine.root / ".venv/bin").mkdir(parents=True)
        shutil.copy(machine.fakes / "python3", machine.root / ".venv/bin/python")
        shutil.copy(machine.root / "requirements.lock", machine.root / ".venv/installed.lock")
    out, err = second.communicate(timeout=30)

    assert (out, err) == ("<x>\n", "")
    assert "venv" not in machine.asked().replace(str(machine.root), "")


def test_it_runs_from_anywhere_and_by_a_link(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(machine.root / "inv")
    machine.inv()

    assert machine.inv("x", program=tmp_path / "link", cwd=tmp_path).stdout == "<x>\n"
    assert machine.inv("inv", "x", program=machine.fakes / "sh", cwd=machine.root).stdout == "<x>\n"


def test_root_on_debian_brings_what_is_missing_and_asks_for_lists_only_then(machine: Machine) -> None:
    machine.program("apt-get", APT)
    machine.user(0)
    machine.says("no-ensurepip")

    done = machine.inv("x")
    assert done.stdout == "<x>\n", done.stderr
    assert done.stderr.splitlines()[0] == "* installing python3.11-venv"
    calls = [line.split()[1:] for line in machine.asked().splitlines() if line.startswith("apt-get")]
    assert [call[2] if call[0] == "-o" else call[0] for call in calls] == ["install", "update", "install"]


@pytest.mark.parametrize(
    ("fault", "apt", "expected"),
    [
        ("no-ensurepip", True, "error: missing: python3.11-venv; sudo apt-get install python3.11-venv"),
        ("no-ensurepip", False, "error: missing, by the names of Debian's packages: python3.11-venv; install them, and run it again"),
        ("old", True, "error: Python 3.11 or later is missing (python3 is Python 3.9.2); install it, and run it again"),
    ],
)
def test_anybody_else_is_told_what_is_missing(machine: Machine, fault: str, apt: bool, expected: str) -> None:
    if apt:
        machine.program("apt-get", APT)
    machine.says(fault)

    done = machine.inv()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [expected]


def test_a_machine_without_python_is_told_so(machine: Machine) -> None:
    (machine.fakes / "python3").unlink()

    done = machine.inv()
    assert done.stderr == "error: missing, by the names of Debian's packages: python3 python3-venv; install them, and run it again\n"


LAB = " mmdebstrap systemd-container iproute2 openssh-client gcc libc6-dev pkg-config libseccomp-dev"
VMS = " qemu-system-x86 e2fsprogs"
TESTS = " openssl busybox gcc libc6-dev procps"


@pytest.mark.parametrize(
    ("argv", "brought"),
    [
        (("lab.up",), LAB),
        (("up",), LAB),
        (("test",), f"{LAB} openssl busybox procps sudo fish tcsh"),
        (("test", "--full"), f"{LAB}{VMS} openssl busybox procps sudo fish tcsh"),
        (("test", "--quick"), TESTS),
        (("test", "--quick", "--full"), TESTS),  # it says that these are two different runs
        (("check",), TESTS),
        (("up", "--inventory", "mine.yaml"), ""),
        (("plan",), ""),
        (("kubectl", "--", "get", "test"), ""),
        (("--help", "lab.up"), ""),
    ],
)
def test_programs_are_brought_only_for_verbs_that_start_them(machine: Machine, argv: tuple[str, ...], brought: str) -> None:
    machine.program("apt-get", APT)
    machine.user(0)
    machine.says("lists")

    machine.inv(*argv)
    installs = [line.partition("--no-install-recommends")[2] for line in machine.asked().splitlines() if line.startswith("apt-get")]
    assert [packages.replace(" openssh-server", "") for packages in installs] == [brought] * bool(brought)


@pytest.mark.parametrize(
    ("text", "brought"),
    [
        ("lab: qemu\n", LAB + VMS),
        ("lab: nspawn\nhosts:\n  worker-1: {address: 10.240.0.21, roles: [worker], lab: qemu}\n", LAB + VMS),
        ("lab: nspawn # or lab: qemu\n", LAB),
        ("hosts: {}\n", ""),
    ],
)
def test_what_the_inventory_asks_for_is_brought(machine: Machine, text: str, brought: str) -> None:
    machine.program("apt-get", APT)
    machine.user(0)
    machine.says("lists")
    (machine.root / "mine.yaml").write_text(text)

    for words in (["--inventory", "mine.yaml"], ["--inventory=mine.yaml"]):
        machine.inv(*words, "up", cwd=machine.root)
        installs = [line.partition("--no-install-recommends")[2] for line in machine.asked().splitlines() if line.startswith("apt-get")]
        assert installs == [brought] * bool(brought)


@pytest.mark.parametrize("libraries", ["yes", "no"])
def test_a_busybox_without_libraries_is_replaced_for_the_tests_alone(machine: Machine, libraries: str) -> None:
    machine.program("apt-get", APT)
    machine.program("busybox", "#!/bin/sh\n")
    machine.program("ldd", f"#!/bin/sh\n[ {libraries} = yes ]\n")
    machine.user(0)
    machine.says("lists")

    machine.inv("lab.up")
    assert "busybox" not in machine.asked().split()
    machine.inv("check")
    assert ("busybox" in machine.asked().split()) is (libraries == "no")


@pytest.mark.build
def test_a_real_environment_is_made_and_used(tmp_path: Path) -> None:
    shutil.copy(ROOT / "inv", tmp_path / "inv")
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "tasks.py").write_text("import sys\nprint(sys.argv[1:], sys.prefix)\n")

    done = subprocess.run([tmp_path / "inv", "a b"], env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout == f"['a b'] {tmp_path}/.venv\n", done.stderr


def test_the_lock_has_a_hash_for_every_package() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.lstrip().startswith("#")]
    packages = [i for i, line in enumerate(lines) if not line.startswith(" ")]

    assert packages
    assert all("--hash=sha256:" in lines[i + 1] for i in packages)
