"""The project's own simulator as the server; README says what its CPU costs."""

import json
import sys
from typing import Any

import httpx

from bench.case import Behaviour
from bench.lines import ANSWER_TOKENS
from bench.server import Seen

FAULTS = {
    "500": "status=500",
    "503": "status=503",
    "429": "status=429 retry_after=1",
    "cut": "cut=0.5",
    "garbage": "garbage=text",
    "reset": "reset",
    "empty": "empty",
}


class Simulator:
    name = "simulator"
    model = "tiny"

    @property
    def config(self) -> dict[str, Any]:
        return {"models": {self.model: f"openai/{self.model}"}}

    def command(self, behaviour: Behaviour) -> list[str]:
        flags: dict[str, Any] = {
            "port": 0,
            "latency": behaviour.latency,
            "rpm": behaviour.rpm,
            "tpm": behaviour.tpm,
            "burst": behaviour.burst,
            "tokens": ANSWER_TOKENS,
            "faults": json.dumps({FAULTS[name]: chance for name, chance in behaviour.faults.items()}),
        }
        given = [part for name, value in flags.items() if value is not None for part in (f"--{name}", str(value))]
        switches = {"headers": behaviour.headers, "require-key": behaviour.needs_key, "commands": False}
        given += [f"--{'' if on else 'no-'}{name}" for name, on in switches.items()]
        return [sys.executable, "-m", "providers.simulator", "--lifeline", *given]

    def seen(self, stats: dict[str, Any]) -> Seen:
        return Seen(
            calls=stats["arrived"],
            accepted=stats["accepted"],
            answered=stats["answered"],
            refused=sum(stats["rejected"].values()),
            injected=sum(stats["injected"].values()),
            early_retries=stats["early_retries"],
            calls_after_ok=stats["calls_after_answer"],
            max_in_flight=stats["max_in_flight"],
            tokens=stats["input_tokens"] + ANSWER_TOKENS * stats["answered"],
            span=stats["span"],
        )

    def control(self, client: httpx.Client, *, rpm: int) -> None:
        client.post("/control", json={"rpm": rpm}).raise_for_status()
