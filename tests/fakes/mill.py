"""A Gristmill server that only pretends to call anybody: each look at a batch finishes some lines.

A line fails if its custom_id begins with ``bad``; a model whose name holds ``mystery`` has no price, any other costs
0.01 USD a line. Its state stands in GRISTMILL_HOME and survives kill -9; ``calls`` lists every called custom_id.
"""

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from worker.embedded import home

LINE_USD = 0.01
AT_REST = ("failed", "completed", "cancelled")


class Mill:
    """The state, and what the routes do with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state: dict[str, Any] = {"files": {}, "batches": {}, "calls": [], "pace": 5, "blocked": None, "uploads": 0}
        if path.exists():
            self.state.update(json.loads(path.read_text()))

    def save(self) -> None:
        home.write_private(self._path, json.dumps(self.state).encode())

    def upload(self, body: bytes) -> dict[str, Any]:
        found = re.search(rb'name="file".*?\r\n\r\n(.*)\r\n--[^\r\n]*--\r\n\Z', body, re.DOTALL)
        assert found is not None
        self.state["uploads"] += 1
        id = f"file-{self.state['uploads']}"
        self.state["files"][id] = found[1].decode()
        return {
            "id": id,
            "bytes": len(found[1]),
            "created_at": 0,
            "expires_at": None,
            "filename": "x",
            "purpose": "batch",
        }

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        id = f"batch_{len(self.state['batches']) + 1}"
        options = request["gristmill"]
        batch = {
            "id": id,
            "status": "validating",
            "request": request,
            "limits": {name: options.get(name) for name in ("max_cost", "line_limit")},
            "paused": options.get("hold", False),
            "results": {},
            "attempts": 0,
        }
        self.state["batches"][id] = batch
        return self.shown(batch)

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        if batch["status"] == "validating":
            batch["status"] = "failed" if self._errors(batch) else "in_progress"
        elif batch["status"] == "in_progress" and not batch["paused"] and not self.state["blocked"]:
            for custom_id in self._open(batch)[: self.state["pace"]]:
                self._call(batch, custom_id)
            if len(batch["results"]) == len(self._lines(batch)):
                batch["status"] = "completed"
        return self.shown(batch)

    def resume(self, batch: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        if said.pop("retry_failed", False):
            batch["results"] = {name: good for name, good in batch["results"].items() if good}
            batch["status"] = "in_progress"
        batch["limits"].update({name: said[name] for name in ("max_cost", "line_limit") if name in said})
        batch["paused"] = False
        return self.shown(batch)

    def jobs(self, batch: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
        after, status = int(query["after"][0]), query.get("status", [None])[0]
        attempt = {
            **dict.fromkeys(("status_code", "error_code", "request_id", "model", "cached_tokens", "reasoning_tokens")),
            **{"started_at": 0, "seconds": 0.5, "generation": 1, "deployment": "m", "outcome": "failed"},
            **{"input_tokens": 1, "output_tokens": 2, "cost_usd": LINE_USD},
        }
        job = {"url": "/v1/x", "model": "m", "generation": 1, "attempts_total": 1, "attempts": [attempt]}
        data = [
            {**job, "line": line, "custom_id": name, "status": stands, "error_code": None if good else "bad"}
            for line, name in enumerate(self._ids(batch), 1)
            for good in (batch["results"].get(name),)
            for stands in ("pending" if good is None else "succeeded" if good else "failed",)
            if line > after and status in (None, stands)
        ]
        return {"data": data[:1], "last_line": data[0]["line"] if data else None, "has_more": len(data) > 1}

    def content(self, file: str) -> str | None:
        batch = self.state["batches"].get(file.split("-")[1])
        if batch is None:
            return self.state["files"].get(file)  # type: ignore[no-any-return]
        good = file.endswith("-output")
        chosen = [name for name in self._ids(batch) if batch["results"].get(name) is good]
        return "".join(json.dumps({"custom_id": name}) + "\n" for name in chosen) or None

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        errors = self._errors(batch) if batch["status"] == "failed" else []
        results = list(batch["results"].values())
        total = 0 if batch["status"] in ("validating", "failed") else len(self._lines(batch))
        blocked = self.state["blocked"] or ("max_cost" if self._is_capped(batch) else None)
        cost = LINE_USD * batch["attempts"]
        times = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at")
        return {
            "id": batch["id"],
            "endpoint": batch["request"]["endpoint"],
            "model": None,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": batch["request"]["input_file_id"],
            "completion_window": "none",
            "status": batch["status"],
            "output_file_id": None,
            "error_file_id": None,
            "created_at": 0,
            **dict.fromkeys((*times, "cancelling_at", "cancelled_at")),
            "expires_at": batch.get("expires_at"),
            "request_counts": {"total": total, "completed": results.count(True), "failed": results.count(False)},
            "usage": None,
            "metadata": batch["request"]["metadata"],
            "gristmill": {
                **dict.fromkeys(("in_flight", "retries", "rate_limited", "unknown_cost", "priority", "invalid"), 0),
                "open": total - len(results),
                "attempts": batch["attempts"],
                "repeats_at_most": 0,
                "cost_usd": cost,
                **batch["limits"],
                "allow_unknown_cost": False,
                "allow_fallback": False,
                "identity": batch["request"]["gristmill"].get("identity"),
                "paused": batch["paused"],
                "blocked_by": [{"reason": blocked, "since": 0, "detail": None}] if blocked else [],
                "models": [] if total == 0 else [self._model(batch, cost)],
                "generation": 1,
                "output_file_id": f"file-{batch['id']}-output",
                "error_file_id": f"file-{batch['id']}-error",
            },
        }

    def _model(self, batch: dict[str, Any], cost: float) -> dict[str, Any]:
        name, lines = str(self._lines(batch)[0]["body"]["model"]), len(self._lines(batch))
        zeros = "input cached output reasoning".split()
        return {
            **{f"{zero}_tokens": 0 for zero in zeros},
            **dict.fromkeys(("unknown_cost", "truncated", "filtered", "refused", "empty", "retries"), 0),
            "model": name,
            "lines": lines,
            "completed": list(batch["results"].values()).count(True),
            "failed": list(batch["results"].values()).count(False),
            "estimated_input_tokens": 10 * lines,
            "estimated_output_tokens": 20 * lines,
            "estimated_cost_usd": None if "mystery" in name else LINE_USD * lines,
            "cost_usd": cost,
        }

    def _call(self, batch: dict[str, Any], custom_id: str) -> None:
        if self._is_capped(batch):
            return
        batch["attempts"] += 1
        self.state["calls"].append(custom_id)
        batch["results"][custom_id] = not custom_id.startswith("bad")

    def _is_capped(self, batch: dict[str, Any]) -> bool:
        cap = batch["limits"]["max_cost"]
        return cap is not None and (batch["attempts"] + 1) * LINE_USD > cap + 1e-9 and bool(self._open(batch))

    def _open(self, batch: dict[str, Any]) -> list[str]:
        ids = self._ids(batch)[: batch["limits"]["line_limit"]]
        return [name for name in ids if name not in batch["results"]]

    def _ids(self, batch: dict[str, Any]) -> list[str]:
        return [line["custom_id"] for line in self._lines(batch)]

    def _lines(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        if self._errors(batch):
            return []
        return [json.loads(line) for line in self._input(batch).splitlines()]

    def _errors(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for number, line in enumerate(self._input(batch).splitlines(), 1):
            if not line.startswith("{"):
                message = "This line is not parseable as valid JSON."
                found.append({"code": "invalid_json_line", "line": number, "message": message, "param": None})
        return found

    def _input(self, batch: dict[str, Any]) -> str:
        text: str = self.state["files"][batch["request"]["input_file_id"]]
        return text


class Handler(BaseHTTPRequestHandler):
    """Routes by pattern. Everything is under one lock: this mill is slow and simple."""

    mill: Mill
    lock = threading.Lock()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_DELETE(self) -> None:
        self._route("DELETE")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        return

    def _route(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        address = urlsplit(self.path)
        with self.lock:
            self.mill.state["authorization"] = self.headers.get("authorization")
            status, answer = self._answer(f"{method} {address.path}", parse_qs(address.query), body)
            self.mill.save()
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, what: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        mill, batches = self.mill, self.mill.state["batches"]
        match re.split(r"[ /]+", what):
            case ["GET", "healthz" | "readyz"]:
                return 200, {}
            case ["GET" | "POST", "v1", "webhook_secret", *_]:
                mill.state["rotations"] = mill.state.get("rotations", 1) + (what.startswith("POST"))
                secret = f"whsec_{mill.state['rotations']}"
                return 200, {"signing_secret": secret, "created_at": 0, "updated_at": 0}
            case ["POST", "v1", "files"]:
                return 200, mill.upload(body)
            case ["DELETE", "v1", "files", id]:
                return 200, {"id": id, "deleted": True}
            case ["GET", "v1", "files", id, "content"]:
                content = mill.content(id)
                return (200, content) if content is not None else (404, _error("No such File object"))
            case ["POST", "v1", "batches"]:
                return 200, mill.create(json.loads(body))
            case ["GET", "v1", "batches"]:
                wanted = query.get("identity", [None])[0]
                found = [mill.shown(batch) for batch in reversed(batches.values())]
                data = [batch for batch in found if wanted in (None, batch["gristmill"]["identity"])]
                data = [] if query.get("kind") == ["messages"] else data
                return 200, {"data": data, "first_id": None, "last_id": None, "has_more": False}
            case [_, "v1", "batches", id, *_] if id not in batches:
                return 404, _error(f"No batch found with id '{id}'.")
            case ["GET", "v1", "batches", id, "jobs"]:
                return 200, mill.jobs(batches[id], query)
            case ["GET", "v1", "batches", id]:
                return 200, mill.look(batches[id])
            case ["POST", "v1", "batches", id, act]:
                return self._act(batches[id], act, json.loads(body or b"{}"))
        return 404, _error("Invalid URL")

    def _act(self, batch: dict[str, Any], act: str, said: dict[str, Any]) -> tuple[int, Any]:
        if (batch["status"] in AT_REST) is not (act == "retry" or said.get("retry_failed", False)):
            return 409, _error(f"Cannot {act} a batch with status '{batch['status']}'.")
        if act == "retry":
            return 200, self.mill.resume(batch, {**said, "retry_failed": True})
        if act == "extend":
            batch["expires_at"] = None if said["completion_window"] == "none" else int(time.time()) + 60
        if act == "resume":
            return 200, self.mill.resume(batch, said)
        if act == "pause":
            batch["paused"] = True
        if act == "cancel":
            batch["status"] = "cancelled"
        return 200, self.mill.shown(batch)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def serve(path: Path, *, port: int = 0) -> tuple[ThreadingHTTPServer, Mill]:
    """A server on a thread; ``server_address`` says where."""
    mill = Mill(path / "mill.json")
    server = ThreadingHTTPServer(
        ("127.0.0.1", port), type("_Handler", (Handler,), {"mill": mill, "lock": threading.Lock()})
    )
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, mill


def main() -> None:
    """As ``gristmill run`` starts a server: locked home, server.json, and an end when the lifeline ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--lifeline", action="store_true")
    options = parser.parse_args()
    if (refusal := Path("refuse")).exists():
        sys.exit(refusal.read_text())
    place = home.Home(path=Path.cwd())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with place.lock():
        server, _ = serve(place.path)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        state = {"pid": os.getpid(), "url": url, "version": version("gristmill"), "started_at": 0}
        home.write_private(place.server_state, json.dumps(state).encode())
        if options.lifeline:
            threading.Thread(target=_wait_for_the_end_of_input, args=(ended,), daemon=True).start()
        ended.wait()
        server.shutdown()
        server.server_close()


def _wait_for_the_end_of_input(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()


if __name__ == "__main__":
    main()
