"""loadmock: a server in C, some 9 microseconds of CPU a request. Any program with its flags and ``/stats`` will do."""

import dataclasses
from pathlib import Path
from typing import Any

import httpx

from bench.case import Behaviour
from bench.server import Seen

FAULTS = {
    "500": "p500",
    "503": "p503",
    "429": "p429",
    "cut": "ptrunc",
    "garbage": "pbadjson",
    "reset": "preset",
    "empty": "pempty",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Loadmock:
    program: Path
    name: str = "loadmock"
    model: str = "gpt-4o-mini"

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def command(self, behaviour: Behaviour) -> list[str]:
        flags: dict[str, float] = {
            "port": 0,
            "latency-ms": behaviour.latency * 1000,
            "rpm": behaviour.rpm or 0,
            "tpm": behaviour.tpm or 0,
            "burst-s": behaviour.burst,
            "headers": int(behaviour.headers),
            "auth": int(behaviour.needs_key),
            **{FAULTS[name]: chance for name, chance in behaviour.faults.items()},
        }
        return [str(self.program), *(part for name, value in flags.items() for part in (f"--{name}", f"{value:g}"))]

    def seen(self, stats: dict[str, Any]) -> Seen:
        rejected, injected = stats["rejected"], stats["injected"]
        return Seen(
            calls=stats["requests"],
            accepted=stats["accepted"],
            answered=stats["ok_200"],
            refused=rejected["rpm"] + rejected["tpm"] + rejected["concurrency"],
            injected=sum(injected.values()),
            early_retries=stats["early_retries"],
            calls_after_ok=stats["calls_after_ok"],
            max_in_flight=stats["max_in_flight"],
            tokens=sum(key["tokens"] for key in stats["keys"]),
            span=stats["span_ok_s"],
        )

    def control(self, client: httpx.Client, *, rpm: int) -> None:
        client.post("/control", params={"rpm": rpm}).raise_for_status()
