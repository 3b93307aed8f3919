"""The process of the temporary server: `python -P -m flows.server_process FOLDER DESCRIPTOR`.

The password comes by the environment. Standard input is a pipe that the run holds open: it closes however the run ends, and
then this process ends, whatever it is doing.
"""

import os
import shutil
import sys
import threading
from pathlib import Path


def main() -> None:
    """Serve until the run ends."""
    os.umask(0o077)
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with_the_run, args=(folder,), daemon=True).start()
    from flows.server_app import serve  # noqa: PLC0415 - takes seconds, in which the run may end

    serve(folder, descriptor)


def _end_with_the_run(folder: Path) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)  # its owner may have been killed
    os._exit(0)


if __name__ == "__main__":
    main()
