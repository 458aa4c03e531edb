"""The command line: Invoke's Program with our options, listing, suggestions and exit codes.

0 done, 1 failed, 2 changes are pending (`plan`), 3 not everything answered (`certs`), 64 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.completion.complete import complete, print_completion_script
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.tasks import Task

from hardway.errors import Mistake
from hardway.verbs.program import console

Contents = Mapping[str, Mapping[str, "Task[Any]"]]  # group -> verb, as `./inv` lists them

PASSING = {"kubectl", "lab.ssh", "test"}  # verbs that hand on what follows --
USAGE = 64  # EX_USAGE of sysexits.h
ROOT = Path(__file__).parents[3]


class Cli(Program):
    """Invoke's options that are not ours are not there: `--dry` would run the verb for real."""

    def __init__(self, contents: Contents, *, version: str) -> None:
        self.contents = contents
        self.passthrough: tuple[str, ...] = ()
        super().__init__(version=version, namespace=_collection(contents), name="hardway", binary="./inv")

    def core_args(self) -> list[Argument]:
        return [
            Argument(names=("inventory", "i"), kind=str, help="another inventory than inventory.yaml"),
            Argument(names=("passphrase-file",), kind=str, help="where the passphrase of sealed keys and backups stands"),
            Argument(names=("debug",), kind=bool, default=False, help="show the traceback of an error"),
            Argument(names=("help", "h"), optional=True, help="what there is, or what a verb takes"),
            Argument(names=("list", "l"), optional=True, help="the verbs"),
            Argument(names=("version",), kind=bool, default=False, help="the kit's version"),
            Argument(names=("complete",), kind=bool, default=False, help="for completion scripts"),
            Argument(names=("print-completion-script",), kind=str, default="", help="for bash, zsh or fish"),
        ]

    def create_config(self) -> None:
        self.config = Config(lazy=True)  # lazy: no ~/.invoke.yaml changes what a verb does

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002 (Invoke's name for it)
        """Run the verbs that were named, and end the process with our exit code."""
        code = self._outcome(list(sys.argv if argv is None else argv))
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exit:
            sys.exit(code)

    def _outcome(self, argv: list[str]) -> int:  # noqa: PLR0911 (a table: each end of a run and its code)
        try:
            self.create_config()
            self.parse_core(argv)
            self.parse_collection()
            self.parse_tasks()
            self.parse_cleanup()
            self.update_config()
            self.execute()
        except Exit as e:
            if e.message:
                console.err(f"error: {e.message}")
            return int(e.code)
        except ParseError as e:
            console.err(f"error: {self._explained(e)}")
            return USAGE
        except Mistake as e:
            console.mistake(e)
            self._trace("--debug" in argv)
            return 1
        except KeyboardInterrupt:
            console.err("interrupted; run it again and it goes on")
            return 130
        except BrokenPipeError:
            return 0
        except Exception as e:  # noqa: BLE001 (whatever it is, it is told in one line)
            what = " ".join(f"{type(e).__name__}: {e}".split())
            console.err(f"error: this is a fault of the kit's, not yours: {what}; run it again with --debug and report what it shows")
            self._trace("--debug" in argv)
            return 1
        return 0

    def _trace(self, wanted: bool) -> None:
        if wanted:
            console.err(traceback.format_exc().rstrip())

    def parse_core(self, argv: list[str] | None) -> None:
        argv = list(argv or sys.argv)
        if "--" in argv and "--complete" not in argv:  # Invoke joins what follows by blanks and loses its quoting
            cut = argv.index("--")
            argv, self.passthrough = argv[:cut], tuple(argv[cut + 1 :])
        verb = next((word for word in argv[1:] if word in {name for _, name, _ in _verbs(self.contents)}), "")
        if verb and {"--help", "-h"} & set(argv[argv.index(verb) :]) and "--complete" not in argv:
            argv = [argv[0], "--help", verb]  # one that wants a file would take it for its name
        self.normalize_argv(argv)
        self.parse_core_args()
        if self.args.version.value:
            self.print_version()
            raise Exit(code=0)
        if self.args["print-completion-script"].value:
            print_completion_script(shell=self.args["print-completion-script"].value, names=["inv", "./inv"])
            raise Exit(code=0)

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ValueError as e:
            word = str(e).rpartition("'")[0].rpartition("'")[2]
            raise Exit(f"{word}: not a whole number", code=USAGE) from None

    def parse_cleanup(self) -> None:
        if self.args.complete.value:
            complete(
                names=["inv", "./inv"],
                core=self.core,
                initial_context=self.initial_context,
                collection=self.collection,
                parser=self._make_parser(),  # the one that was used has changed with it
            )
        verb = self.args.help.value or self.args.list.value
        if isinstance(verb, str):
            if verb not in self.parser.contexts:
                raise ParseError(f"No idea what '{verb}' is!")
            self.print_task_help(verb)
        elif verb or not self.tasks:
            self.print_help()
        else:
            return
        raise Exit(code=0)

    def update_config(self, merge: bool = True) -> None:
        path = self.args.inventory.value
        ours = {
            "inventory": path or str(ROOT / "inventory.yaml"),
            "passphrase_file": self.args["passphrase-file"].value or "",
            "debug": bool(self.args.debug.value),
            "passthrough": self.passthrough,
        }
        self.config.load_overrides({"hardway": ours}, merge=merge)

    def _explained(self, error: ParseError) -> str:
        """What was wrong on the command line, and what was probably meant."""
        text = str(error)
        if flag := re.match(r"Flag <Argument: ([\w-]+).*needed value", text):
            return f"--{flag[1]}: a value is missing; write --{flag[1]} VALUE"
        if not text.startswith("No idea what '"):
            return f"{text.rstrip('!.')}; `./inv --help{self._verb(error)}` shows what it takes"
        word = text.removeprefix("No idea what '").rpartition("'")[0]
        if word.startswith("-"):
            known = [*self.initial_context.flags, *(error.context.flags if error.context else ())]
            what = "no such option"
        else:
            known = list(self.collection.task_names)
            what = "no such verb"
            if self._verb(error).strip() in PASSING:
                return f"{word}: {what}; what is meant for a program follows --: ./inv{self._verb(error)} -- {word}"
        near = difflib.get_close_matches(word, known, n=1)
        return f"{word}: {what}; " + (f"did you mean {near[0]}?" if near else f"`./inv{self._help(error)}` lists them")

    def _verb(self, error: ParseError) -> str:
        return f" {error.context.name}" if error.context and error.context.name else ""

    def _help(self, error: ParseError) -> str:
        return f" --help{self._verb(error)}" if self._verb(error) else ""

    def print_help(self) -> None:
        console.out("Kubernetes the hard way, kept. Usage: ./inv VERB [--options] [-- ARGUMENTS]\n")
        for group, verbs in self.contents.items():
            console.out(f"{group}:")
            for name, task in verbs.items():
                console.out(f"  {name:{self._width()}}  {_sentence(task)}")
            console.out("")
        console.out("Options, before or after a verb:")
        taking = {"inventory", "passphrase-file"}
        options = {f"--{one.name}{' PATH' if one.name in taking else ''}": one.help for one in self.core_args()[:6]}
        width = max(self._width(), *map(len, options))
        for option, text in options.items():
            console.out(f"  {option:{width}}  {text}")

    def print_task_help(self, name: str) -> None:
        context = self.parser.contexts[name]
        name = next(ours for _, ours, task in _verbs(self.contents) if task is self.collection[name])  # as it is listed
        options = context.help_tuples()
        positional = "".join(f" {argument.name.upper()}" for argument in context.positional_args)
        console.out(f"Usage: ./inv {name}{positional}{' [--options]' if options else ''}\n")
        for line in (self.collection[name].__doc__ or "").strip().splitlines():
            console.out(f"  {line.strip()}".rstrip())
        width = max((len(flags) for flags, _ in options), default=0)
        if options:
            console.out("")
        for flags, text in options:
            console.out(f"  {flags:{width}}  {text or ''}".rstrip())

    def _width(self) -> int:
        return max(len(name) for _, name, _ in _verbs(self.contents))


def _verbs(contents: Contents) -> Iterator[tuple[str, str, Task[Any]]]:
    for group, verbs in contents.items():
        for name, task in verbs.items():
            yield group, name, task


def _collection(contents: Contents) -> Collection:
    root = Collection()
    groups = {name.rpartition(".")[0] for _, name, _ in _verbs(contents)}
    for _, name, task in _verbs(contents):
        *path, last = name.split(".")
        if name in groups:  # a verb of its own, with others below it
            path.append(last)
        here = root
        for part in path:
            if part not in here.collections:
                here.add_collection(Collection(part))
            here = here.collections[part]
        here.add_task(task, name=last, default=name in groups)
    return root


def _sentence(task: Task[Any]) -> str:
    return (task.__doc__ or "").strip().partition("\n")[0]
