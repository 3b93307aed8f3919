"""Standard input, output and error that the parent process closed (`>&-`).

The next files to be opened would get their numbers, and what libraries print would go into them.
"""

import os
import sys


def open_streams() -> None:
    """Open those that are closed, on nothing."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(opened, True)  # noqa: FBT003 - it takes no name
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - a descriptor
