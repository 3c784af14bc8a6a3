"""The command `calibri`: the library's capabilities without a screen."""

from __future__ import annotations

import argparse
import importlib
import logging
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import calibri
from calibri import commands
from calibri.console import print_in_any_encoding, quiet_libraries
from calibri.errors import CalibriError
from calibri.memory import keep_freed_memory
from calibri.plugins import Plugin, find_plugins, tell
from calibri.threads import shorten_thread_waits

FAILED, INTERRUPTED = 1, 130  # argparse itself exits with 2


def parser() -> argparse.ArgumentParser:
    """The parser with every subcommand of `calibri/commands`, and those that other packages register.

    A module there is one command of its name (HELP, DESCRIPTION, add_options, run), or registers several.
    """
    top = argparse.ArgumentParser(prog="calibri", description=calibri.__doc__)
    top.add_argument("--version", action="version", version=f"calibri {calibri.__version__}")
    top.add_argument("--debug", action="store_true", help="show the trace of an error")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda m: m.name):
        loaded = importlib.import_module(f"{commands.__name__}.{module.name}")
        if hasattr(loaded, "register"):  # it has actions of its own
            loaded.register(subparsers)
        elif hasattr(loaded, "add_options"):
            command = subparsers.add_parser(module.name, help=loaded.HELP, description=loaded.DESCRIPTION)
            loaded.add_options(command)
            command.set_defaults(run=loaded.run)
    for plugin in find_plugins("calibri.commands"):
        _add_plugin(subparsers, plugin)
    return top


def _add_plugin(subparsers: argparse._SubParsersAction, plugin: Plugin) -> None:
    """Adds what a package registers; a package that cannot is a command that says why."""
    before = set(subparsers.choices)
    try:
        plugin.load()(subparsers)
        return
    except (Exception, SystemExit) as error:
        why = str(error) if isinstance(error, CalibriError) else f"{plugin.place} failed: {tell(error)}"

    def fail(args: argparse.Namespace) -> int:
        raise CalibriError(f"{args.command} is unusable: {why}")

    if plugin.name not in subparsers.choices:
        helps = f"unusable: {why}".replace("%", "%%")
        subparsers.add_parser(plugin.name, help=helps).add_argument("rest", nargs="*")
    for name in set(subparsers.choices) - before:
        subparsers.choices[name].set_defaults(run=fail)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. An error is one line on stderr and an exit code other than 0."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    shorten_thread_waits()
    print_in_any_encoding()
    quiet_libraries()
    args = parser().parse_args(argv)
    keep_freed_memory()
    try:
        return args.run(args)
    except CalibriError as error:
        if args.debug:
            traceback.print_exc()
        print(f"calibri: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("calibri: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; Python would complain once more at exit
        return FAILED
    except Exception as error:
        if args.debug:
            raise
        words = " ".join(str(error).split()) or "no message"
        print(f"calibri: {type(error).__name__}: {words} (--debug shows where)", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
