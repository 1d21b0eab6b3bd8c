"""The ``ecgcore`` command: arguments in, exit code out. All it does, the library does too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import ecgcore
from ecgcore.cli import bench, convert, demo, doctor, evaluate, plot, sample, train
from ecgcore.cli.common import INTERRUPTED
from ecgcore.errors import EcgcoreError

_COMMANDS = (doctor, demo, train, sample, convert, evaluate, plot, bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 only on success, 2 for wrong arguments, 130 after Ctrl-C, else 1."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help or the error
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt as stop:
        if arguments.debug:
            raise
        kept = f"; {stop}" if str(stop) else ""
        print(f"ecgcore {arguments.command}: interrupted{kept}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.debug:
            raise
        expected = isinstance(error, EcgcoreError | ValueError | OSError)
        text = " ".join(str(error).split()) or type(error).__name__
        if not expected:
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        print(f"ecgcore {arguments.command}: error: {text}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecgcore",
        description="Train, sample and inspect state-space ECG generators.",
    )
    parser.add_argument("--version", action="version", version=f"ecgcore {ecgcore.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        name, summary = module.__name__.rsplit(".", 1)[1], (module.__doc__ or "").split("\n")[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=module.run)
    return parser
