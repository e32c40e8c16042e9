"""The console script `lightkit`: which command, and how errors end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection

from lightkit.cli.commands import COMMANDS
from lightkit.cli.shipped import find_config
from lightkit.errors import ConfigError, LightkitError, MissingExtraError, StoppedBySignal, did_you_mean
from lightkit.version import __version__

EXIT_RUN_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_SIGNAL = 1, 2, 130, 128

USAGE = """\
usage: lightkit COMMAND [CONFIG] [--key value ...]

  lightkit list                      the shipped configs, one line each
  lightkit fit CONFIG                train; --test: then test the best checkpoint
  lightkit fit CONFIG --resume       go on from the newest whole checkpoint, or begin; also --resume RUN_DIR alone
  lightkit validate CONFIG           run the validation loop once
  lightkit test CONFIG               run the test loop once
  lightkit predict CONFIG            predict, and keep the outputs
  lightkit predict --ckpt_path FILE --text "..." ...
                                     label and probability from the checkpoint alone; also --audio, --image FILE
  lightkit export CKPT --format onnx the checkpoint as a file that runs without lightkit, compared with the module;
                                     also torchscript, pt2, safetensors; --output FILE
  lightkit check CONFIG              build everything, run two steps, report all problems; writes nothing
  lightkit copy CONFIG FOLDER        the job as YAML and Python of your own, to run and to change

CONFIG is a YAML file or the name of a shipped config. Every key of it can be given as an option too:
--trainer.max_epochs 3 --model.lr 0.1 --data.batch_size 32. Callbacks and loggers may be named in short, with their
arguments behind the name:

  trainer:
    callbacks:
      - LearningRateMonitor
      - ModelCheckpoint: {monitor: val_loss, save_last: true}

To look closer:

  lightkit fit --help                all options
  lightkit fit CONFIG --print_config the whole configuration, defaults included
  lightkit fit --model.help CLASS    the arguments of one class; also --data.help, --trainer.callbacks.help

--debug (or LIGHTKIT_DEBUG=1) shows the traceback of an error. --version shows the version.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code.

    0 done, 1 the run failed, 2 wrong input, 130 interrupted, 143 ended by SIGTERM (128 + the number of the signal).

    Errors meant for users are one message on stderr; anything else is a defect, and its traceback is shown.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    show_traceback = wants_traceback(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else EXIT_BAD_INPUT
    if arguments[0] == "--version":
        print(f"lightkit {__version__}")
        return 0
    exit_code = EXIT_BAD_INPUT
    try:
        name = find_command(arguments, COMMANDS)
        if name not in ("list", "export") and len(arguments) > 1 and not arguments[1].startswith("-"):
            find_config(arguments[1])  # before torch is imported, which takes seconds
        command = COMMANDS[name]
        prepared = command.prepare(arguments[1:])
        exit_code = EXIT_RUN_FAILED
        command.run(prepared)
    except LightkitError as error:
        return report(error, exit_code, show_traceback)
    except KeyboardInterrupt:
        print("lightkit: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except StoppedBySignal as end:
        return EXIT_SIGNAL + end.number
    return 0


def find_command(arguments: list[str], commands: Collection[str]) -> str:
    """Return the command that comes first; ConfigError that names the near one where it is none."""
    expected = f"expected one of {', '.join(commands)}"
    if not arguments:
        raise ConfigError(f"no command; {expected}")
    if arguments[0] not in commands:
        raise ConfigError(f"command {arguments[0]!r}: {expected}{did_you_mean(arguments[0], commands)}")
    return arguments[0]


def wants_traceback(arguments: list[str]) -> bool:
    """Whether errors are to show their traceback; takes `--debug` out of the arguments."""
    asked = "--debug" in arguments
    if asked:
        arguments.remove("--debug")
    return asked or os.environ.get("LIGHTKIT_DEBUG", "0") not in ("", "0")


def report(error: LightkitError, exit_code: int, show_traceback: bool) -> int:
    """Print one error on stderr and return the exit code; a package that is not installed is wrong input."""
    if show_traceback:
        traceback.print_exception(error)
    print(f"lightkit: error: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT if isinstance(error, MissingExtraError) else exit_code


if __name__ == "__main__":
    raise SystemExit(main())
