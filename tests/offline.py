"""Runs a program of `examples/` in a process without a network; test_programs.py starts it.

``python offline.py NAME FILE`` reads from FILE, as JSON, the command lines that the program must
refuse and the one that it must run.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
NETWORK = NAMES | SENDING


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that ends the process: an exception might be caught, and the test pass.

    It sees what goes through Python's sockets in this process, not what C code does by itself.
    """
    local = event in SENDING and not isinstance(arguments[1], tuple)  # a path, or a connection
    if event in NETWORK and not local:
        os.write(2, f"reached for the network: {event} {arguments[1:]}\n".encode())
        os._exit(70)


def main(name: str, file: str) -> None:
    """Have the program refuse what is wrong, then run."""
    sys.addaudithook(refuse_network)
    sys.path.insert(0, str(EXAMPLES))
    program = importlib.import_module(name)
    lines = json.loads(Path(file).read_text(encoding="utf-8"))
    for line in lines["refused"]:
        try:
            program.main(line)
        except SystemExit as error:
            if error.code in (0, None):
                raise
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        else:
            sys.exit(f"{line} was not refused")
    program.main(lines["run"])


if __name__ == "__main__":
    main(*sys.argv[1:])
