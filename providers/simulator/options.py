"""What the simulator may be told, at start (`--name value`) and while it runs (`POST /control`)."""

import dataclasses
import fnmatch
import types
from collections.abc import Mapping
from typing import Any, Self, get_args, get_type_hints

from providers.simulator import faults


class OptionError(Exception):
    """An option is unknown or has an impossible value; the message names it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What can differ by model and by key. Seconds everywhere; a limit of None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    rpd: float | None = None
    concurrency: int | None = None
    mode: str = "bucket"  # "bucket" (refills all the time) | "window" (fixed, from the first request) | "sliding"
    burst: float = 60.0  # a bucket holds this many seconds of its limit: 60 lets a full minute through at once
    window: float = 60.0  # length for "window" and "sliding"; the allowance is rpm * window / 60
    day: float = 86400.0  # length of the day that rpd counts
    charge: str = "reserve"  # tokens a call costs its quota: prompt + max_tokens if given ("reserve") | real "usage"
    count_rejected: bool = False  # a refused call uses up the request limit too
    nap: float = 1.0  # the wait that a refusal by concurrency tells
    retry_after: str = "both"  # "both" (s and ms) | "seconds" | "ms" | "date" | "none"
    headers: bool = True  # rate headers on every answer
    latency: float = 0.0  # until the first byte
    per_token: float = 0.0  # more for each completion token
    jitter: float = 0.0  # plus or minus, uniform, the same for the same nonce and attempt
    tokens: int | None = None  # length of every answer; None: 16 to 79, by the request
    refuse: str | None = None  # every call gets this error code: a dead key, an empty balance, a retired model
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)  # "status=503 retry_after=1": 0.05


CHOICES = {
    "mode": ("bucket", "window", "sliding"),
    "charge": ("reserve", "usage"),
    "retry_after": ("both", "seconds", "ms", "date", "none"),
    "scope": ("model", "key"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options(Settings):
    """Settings for all, then `models` (by name pattern) and `keys` over them; a key's win."""

    scope: str = "model"  # whose quota a call spends: that of key and "model", or of the "key" alone
    require_key: bool = False  # 401 without a key
    marker: str = "nonce:"  # what stands before a nonce in a text
    commands: bool = True  # obey [[...]] in texts; switch off to rehearse with real prompts
    seed: int = 1
    record: int = 0  # keep this many of the last requests for GET /requests
    models: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    keys: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Raises OptionError. `models` and `keys` are merged by name; null forgets a name."""
        made = {name: _value(Options, name, value) for name, value in changes.items()}
        for group in ("models", "keys"):
            if group in made:
                merged = {**getattr(self, group), **made[group]}
                made[group] = {name: _overrides(value) for name, value in merged.items() if value is not None}
        return dataclasses.replace(self, **made)

    def settings(self, key: str, model: str) -> Settings:
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)}
        for pattern, overrides in self.models.items():
            if fnmatch.fnmatchcase(model, pattern):
                made.update(overrides)
        made.update(self.keys.get(key, {}))
        return Settings(**made)


def _overrides(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError("models and keys map a name to an object of settings")
    return {name: _value(Settings, name, inner) for name, inner in value.items()}


def _value(owner: type, name: str, value: Any) -> Any:
    hints = get_type_hints(owner)
    if name not in hints:
        raise OptionError(f"unknown option {name!r}; known: {', '.join(sorted(hints))}")
    if name == "faults":
        return _faults(value)
    if name in ("models", "keys"):
        return _overrides_of_names(name, value)
    kinds = get_args(hints[name]) if isinstance(hints[name], types.UnionType) else (hints[name],)
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, bool) != (bool in kinds) or not isinstance(value, (*kinds, int) if float in kinds else kinds):
        raise OptionError(f"option {name!r} cannot be {value!r}")
    if name in CHOICES and value not in CHOICES[name]:
        raise OptionError(f"option {name!r} is one of {', '.join(CHOICES[name])}, not {value!r}")
    if isinstance(value, (int, float)) and (value < 0 or (value == 0 and name in POSITIVE)):
        raise OptionError(f"option {name!r} cannot be {value!r}")
    return value


POSITIVE = frozenset({"rpm", "tpm", "rpd", "concurrency", "burst", "window", "day"})


def _overrides_of_names(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"option {name!r} maps a name to an object of settings")
    return value


def _faults(value: Any) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise OptionError("option 'faults' maps a fault to its probability")
    for words, chance in value.items():
        if isinstance(chance, bool) or not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
            raise OptionError(f"the probability of fault {words!r} cannot be {chance!r}")
        try:
            known = faults.parse(words)
        except faults.FaultError as error:
            raise OptionError(str(error)) from error
        if known is None:
            raise OptionError(f"not a fault: {words!r}")
    return dict(value)
