"""Acting as another user of this machine, which only root can."""

import json
import os
from collections.abc import Callable
from typing import Any

NOBODY = 65534


def as_nobody(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of another user, by way of JSON.

    It is forked and not executed, since another user may not reach this Python: it must import nothing.
    """
    "localhost".encode("idna")  # which imports what sockets need
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = function(*arguments)
            with os.fdopen(writing, "w") as pipe:
                json.dump(said, pipe)
        except BaseException as error:  # noqa: BLE001 - the other side must see it
            os.write(2, f"as another user: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return json.loads(answer)
