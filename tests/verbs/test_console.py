import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOW = """\
from hardway.errors import Finding
from hardway.verbs.program.console import Console
console = Console()
with console.step("making [bold]it[/]") as tell:
    tell("first [red]line")
    tell.now("half")
console.warn(Finding(where="a", what="b"))
console.table(["HOST", "WHAT"], [["a" * 60, "b" * 60 + " [red]x"], ["c", 1]])
console.result("result [red]" + "x" * 100)
"""


def test_without_a_terminal_results_and_narration_are_plain_lines_apart() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        f"{'HOST':60}  WHAT",
        f"{'a' * 60}  {'b' * 60} [red]x",
        f"{'c':60}  1",
        f"result [red]{'x' * 100}",
    ]
    narration = done.stderr.splitlines()
    assert narration[:2] == ["* making [bold]it[/]", "  first [red]line"]
    assert narration[2].startswith("* making [bold]it[/]: ")
    assert narration[3] == "warning: a: b"


def on_a_terminal(**environ: str) -> str:
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | environ
    process = subprocess.Popen([sys.executable, "-c", SHOW], cwd=ROOT, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's end of a terminal
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_colours_are_for_terminals_and_not_with_no_color() -> None:
    assert "\x1b[33mwarning: a: b" in on_a_terminal()
    assert "\x1b[33m" not in on_a_terminal(NO_COLOR="1")
