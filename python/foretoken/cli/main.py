"""The command `foretoken`: finds the subcommand, runs it, and turns its end into an exit code.

0: done. 1: an error, said in one line. 2: the command line was wrong. 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from ..errors import ForetokenError
from . import bench, certify, codec, evaluate, generate, info, lab, paint, train

COMMANDS = {
    "generate": generate, "paint": paint, "train": train, "codec": codec, "info": info, "bench": bench,
    "certify": certify, "evaluate": evaluate, "lab": lab,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line; every command says its own options."""
    top = argparse.ArgumentParser(prog="foretoken", description="Decode language models fast, and exactly.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.options(command)
        command.set_defaults(run=module.run, wrong_usage=command.error)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        The exit code.

    Raises:
        SystemExit: the command line was wrong (2), or help was asked for (0).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?" and goes on
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `foretoken … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nforetoken: stopped", file=sys.stderr)
        return 130
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        print(f"foretoken: error: {_one_line(what)}", file=sys.stderr)
        return 1
    except ForetokenError as error:
        print(f"foretoken: error: {_one_line(str(error))}", file=sys.stderr)
        return 1
    return 0


def _one_line(message: str) -> str:
    return " ".join(message.split())
