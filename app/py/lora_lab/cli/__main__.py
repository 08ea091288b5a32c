"""The program `lora-lab`, and `python -m lora_lab.cli`: takes Ctrl-C before anything else is imported."""

import os

# Not `signal`: it would be the first of many imports.
from _signal import SIG_IGN, SIGINT, getsignal, signal  # type: ignore[import-not-found]


def _end(*_: object) -> None:
    """End the process: nothing has begun."""
    os.write(2, b"\nlora-lab: interrupted\n")
    os._exit(130)


if getsignal(SIGINT) != SIG_IGN:  # as in a script's `lora-lab train &`: Ctrl-C is meant for others
    signal(SIGINT, _end)


def main() -> int:
    """Run the command that the arguments name and return the exit code."""
    from lora_lab.cli.interrupt import interrupts

    interrupts.listen_to_the_end()
    from lora_lab.cli.main import main

    return main()


if __name__ == "__main__":
    raise SystemExit(main())
