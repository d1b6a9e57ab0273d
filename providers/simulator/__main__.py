"""Runs the simulator: `python -P -m providers.simulator --port 0 --rpm 600`; says `READY URL` on its first line."""

import argparse
import ipaddress
import json
import os
import socket
import sys
import threading
from typing import Any, get_args, get_type_hints

import uvicorn
from typing_extensions import override

from providers.simulator import app, options

# Clients keep idle connections for about a minute; a server that closes earlier would add faults nobody asked for.
KEEP_ALIVE = 120
GRACE = 1


class Server(uvicorn.Server):
    """Says when and where it is ready."""

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and self.started:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(f"READY http://{f'[{host}]' if ':' in host else host}:{port}\n")
            sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if not given.allow_remote and not _loopback(given.host):
        return _refused(f"{given.host} is not a loopback address; --allow-remote listens there all the same")
    try:
        chosen = options.Options().changed(_chosen(given))
    except options.OptionError as error:
        return _refused(str(error))
    config = uvicorn.Config(
        app.Simulator(chosen),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = Server(config)
    if given.lifeline:
        threading.Thread(target=_follow, args=(server,), daemon=True).start()
    try:
        server.run([_listening(given.host, given.port)])
    except KeyboardInterrupt:
        return 130
    return 0


def _refused(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m providers.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081, help="0 takes a free one")
    parser.add_argument("--allow-remote", action="store_true", help="listen on an address that others can reach")
    parser.add_argument("--lifeline", action="store_true", help="exit when stdin closes")
    for name, hint in get_type_hints(options.Options).items():
        flag = f"--{name.replace('_', '-')}"
        if hint is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction)
        elif name in ("faults", "models", "keys"):
            parser.add_argument(flag, type=json.loads, metavar="JSON")
        else:
            kind = next(each for each in (*get_args(hint), hint) if each in (int, float, str))
            parser.add_argument(flag, type=kind, metavar=kind.__name__.upper())
    return parser


def _chosen(given: argparse.Namespace) -> dict[str, Any]:
    named = get_type_hints(options.Options)
    return {name: value for name, value in vars(given).items() if name in named and value is not None}


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _follow(server: uvicorn.Server) -> None:
    """Ends the server when whoever holds the other end of stdin ends."""
    # Not sys.stdin: a thread that waits inside it holds a lock that the interpreter wants at its end.
    while os.read(0, 4096):
        pass
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
