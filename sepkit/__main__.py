"""`python -m sepkit …`: each command is the Python call of the same name.

Exit status: 0 done, 1 it failed and says why in one line, 2 the call was wrong.
"""

import io
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module

import sepkit
from sepkit.commands import WHERE, whole_paths
from sepkit.errors import SepkitError, UsageError
from sepkit.storage import Root, ledger

COMMANDS = {
    "doctor": "Checks the machine and the songs, and says what would stop the work.",
    "demo": "Makes the procedural demo songs.",
    "fetch": "Fetches the songs into the cache, song by song.",
    "cache": "Builds the training cache.",
    "train": "Trains an experiment, or continues its training.",
    "evaluate": "Scores a trained experiment, or the reference mixture or oracle.",
    "separate": "Separates audio files with a trained run.",
    "export": "Writes a trained network for use elsewhere: weights, configuration, model card.",
    "compare": "Compares two runs, or experiments with all their seeds, over their test songs.",
    "scoreboard": "Prints the scoreboard and writes it as CSV, Markdown, HTML and LaTeX.",
    "report": "Writes the milestone report, one HTML file.",
    "grid": "Trains and scores experiments × seeds × folds: a line a run, then a table.",
    "budget": "Prints the minutes spent, by run and stage, including runs that died.",
    "plan": "Predicts what experiments would cost in minutes, before they are spent.",
    "week": "Runs the seven notebooks, a line a day, then prints the scoreboard.",
}
QUICK = ("budget", "compare", "demo", "scoreboard")  # no torch, no minutes


def build_parser(chosen: str | None = None) -> ArgumentParser:
    """All commands, with the arguments of the `chosen` one: no other command's module is imported."""
    parser = ArgumentParser(prog="sepkit", description="A one-week laboratory for music source separation.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if name == chosen:
            own = getattr(import_module(f"sepkit.commands.{name}"), "ARGUMENTS", {})
            for argument, settings in {**own, **WHERE}.items():
                command.add_argument(argument, **settings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal lacks ends no command
            stream.reconfigure(errors="backslashreplace" if stream.encoding.startswith("utf") else "replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.update(whole_paths())
    options = vars(build_parser(arguments[0] if arguments else None).parse_args(arguments))
    name = options.pop("command")
    command = import_module(f"sepkit.commands.{name}")
    try:
        if name not in QUICK and name != "week":  # whose notebooks book their own minutes
            ledger.open_clock(Root.at(options["root"], options["profile"]), stage="command")
        result = (command.run if hasattr(command, "run") else getattr(sepkit, name))(**options)
        if hasattr(command, "show"):
            command.show(result)
        sys.stdout.flush()  # a reader that is gone is noticed here, not while Python ends
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # `| head` has read enough; what is still in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SepkitError, OSError) as error:  # OSError: a full disk, a folder without leave to write
        print("sepkit:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("sepkit: stopped; the same command continues from there", file=sys.stderr)
        return 1
    finally:
        ledger.close_clock()


if __name__ == "__main__":
    sys.exit(main())
