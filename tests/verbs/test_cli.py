"""The Program, in this process with verbs of the tests' own, and as ./inv."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Finding, Mistake
from hardway.verbs.program.cli import Cli
from hardway.verbs.program.session import passthrough

ROOT = Path(__file__).parents[2]


@task(auto_shortflags=False, help={"count": "how many", "json": "where to"})
def words(c: Context, count: int = 1, json: str = "") -> None:
    """Say what was given."""
    print(count, repr(json), c.config.hardway.inventory, passthrough(c))


@task(auto_shortflags=False)
def needs(c: Context, host: str) -> None:
    """Want a host."""


@task(auto_shortflags=False)
def mistaken(c: Context) -> None:  # noqa: ARG001 (Invoke hands it over)
    """Fail as an operator's mistake does."""
    raise Mistake(
        Finding(where="f.yaml:1 a", what="is wrong\nin two lines", next_step="mend it"), Finding(where="", what="so is \x1b[31mthis")
    )


@task(auto_shortflags=False)
def broken(c: Context) -> None:  # noqa: ARG001 (Invoke hands it over)
    """Fail as a bug does."""
    raise RuntimeError("two\nlines")


@task(auto_shortflags=False)
def interrupted(c: Context) -> None:  # noqa: ARG001 (Invoke hands it over)
    """Be interrupted."""
    raise KeyboardInterrupt


CONTENTS = {
    "Some": {"words": words, "needs": needs},
    "Failing": {"fail.mistaken": mistaken, "fail.broken": broken, "fail.interrupted": interrupted},
}


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        Cli(CONTENTS, version="1.2.3").run(["inv", *argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize("argv", [(), ("--list",), ("--help",), ("-h",), ("-l",)])
def test_the_verbs_are_listed_by_group_one_line_each(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "Some:" in lines
    assert "  words             Say what was given." in lines
    assert "  fail.interrupted  Be interrupted." in lines
    assert lines.index("Some:") < lines.index("Failing:")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("wrods",), "error: wrods: no such verb; did you mean words?"),
        (("fail.mistakn",), "error: fail.mistakn: no such verb; did you mean fail.mistaken?"),
        (("zzz",), "error: zzz: no such verb; `./inv` lists them"),
        (("words", "--cuont", "1"), "error: --cuont: no such option; did you mean --count?"),
        (("words", "--count", "many"), "error: many: not a whole number"),
        (("words", "--count"), "error: --count: a value is missing; write --count VALUE"),
        (("words", "--inventory"), "error: --inventory: a value is missing; write --inventory VALUE"),
        (("needs",), "error: 'needs' did not receive required positional arguments: 'host'; `./inv --help needs` shows what it takes"),
        (("--help", "wrds"), "error: wrds: no such verb; did you mean words?"),
        (("--dry", "words"), "error: --dry: no such option; "),
        (("words", "--dry"), "error: --dry: no such option; `./inv --help words` lists them"),
        (("words", "-R"), "error: -R: no such option; "),
        (("words", "--warn-only"), "error: --warn-only: no such option; "),
        (("words", "--config", "x"), "error: --config: no such option; "),
        (("words", "--prompt-for-sudo-password"), "error: --prompt-for-sudo-password: no such option; "),
    ],
)
def test_wrong_usage_is_one_line_with_what_was_meant_and_64(
    argv: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 64

    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(expected)


def test_a_mistake_is_one_line_for_each_finding_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail.mistaken") == 1

    expected = ["error: f.yaml:1 a: is wrong in two lines; mend it", "error: so is ?[31mthis"]
    assert expected == capsys.readouterr().err.splitlines()


def test_a_bug_is_one_line_that_says_so_and_a_traceback_only_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail.broken") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: this is a fault of the kit's, not yours: RuntimeError: two lines; run it again with --debug and report what it shows"
    )
    assert run("fail.broken", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert run("--debug", "fail.broken") == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail.interrupted") == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [("--inventory", "x.yaml", "words"), ("words", "--inventory", "x.yaml"), ("words", "--inventory=x.yaml"), ("-i", "x.yaml", "words")],
)
def test_the_inventory_is_named_before_or_after_a_verb(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 0
    assert capsys.readouterr().out == "1 '' x.yaml ()\n"


def test_what_follows_two_dashes_is_kept_word_by_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("words", "--count", "2", "--", "get", "a b", "--dry", "", "--", "-o", "$x") == 0
    assert capsys.readouterr().out.endswith("('get', 'a b', '--dry', '', '--', '-o', '$x')\n")


def test_a_lone_dash_is_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("words", "--json", "-") == 0
    assert capsys.readouterr().out.startswith("1 '-' ")


def test_help_of_a_verb_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help", "words") == 0
    first = capsys.readouterr().out
    assert run("words", "--help") == 0
    assert first == capsys.readouterr().out
    assert first.startswith("Usage: ./inv words [--options]\n\n  Say what was given.\n")


def test_help_says_what_an_option_is_for() -> None:  # in a process of its own: Invoke tells it once
    assert "--quick  without labs and builds" in inv("--help", "test").stdout


def test_no_settings_of_invoke_itself_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".invoke.yaml").write_text("hardway: {inventory: other.yaml}\ntasks: {executor_class: no.such}\n")

    assert run("words") == 0
    assert f"{ROOT}/inventory.yaml" in capsys.readouterr().out


def inv(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "inv", *argv], cwd=cwd, capture_output=True, text=True, check=False)


def test_inv_lists_its_verbs_from_anywhere(tmp_path: Path) -> None:
    done = inv(cwd=tmp_path)

    assert done.returncode == 0
    assert "  check " in done.stdout
    assert done.stderr == ""
    assert all(len(line) <= 120 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("kubectl", "get"), "get: no such verb; what is meant for a program follows --: ./inv kubectl -- get"),
        (("smoke", "--toleration", "a", "--toleration", "b:Never"), "--toleration: 'b:Never' is none; write KEY[=VALUE][:EFFECT], with"),
        (("smoke", "--all"), "smoke: --all goes with --cleanup"),
        (("smoke", "--image-pull-secret", "a"), "smoke: --context, --namespace, --image-pull-secret, "),
    ],
)
def test_what_was_meant_is_told_before_anything_is_done(argv: tuple[str, ...], line: str) -> None:
    done = inv(*argv)

    assert done.returncode in {1, 64}
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1


def test_inv_prints_the_schema_and_nothing_else() -> None:
    done = inv("inventory.schema")

    assert json.loads(done.stdout)["title"] == "inventory.yaml"
    assert done.stderr == ""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(["sh", "-c", f"'{ROOT}/inv' inventory.schema | head -n 1"], capture_output=True, text=True, check=False)

    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_ctrl_c_ends_a_run_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(
        "import signal\nfrom invoke.tasks import task\nfrom hardway.verbs.program.cli import Cli\n"
        "@task\ndef wait(c):\n    'Wait.'\n    print('ready', flush=True)\n    signal.pause()\n"
        "Cli({'A': {'wait': wait}}, version='1').run(['inv', 'wait'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, tmp_path / "waiting.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert err == "interrupted; run it again and it goes on\n"
