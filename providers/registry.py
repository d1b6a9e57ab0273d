"""Finds the provider folders: whatever folder beside this file defines a SPEC is a provider."""

import fnmatch
import functools
import importlib
import pathlib

from providers import spec

FOLDER = pathlib.Path(__file__).parent


def get(kind: str) -> spec.ProviderSpec:
    """Raises KeyError for a name that is no provider."""
    return _specs()[kind]


def names() -> tuple[str, ...]:
    return tuple(_specs())


def find_model(bare_name: str) -> str | None:
    """The provider that a model name without "provider/" belongs to, if just one claims it."""
    claims = [
        kind for kind, known in _specs().items() if any(fnmatch.fnmatchcase(bare_name, p) for p in known.known_models)
    ]
    return claims[0] if len(claims) == 1 else None


@functools.cache
def _specs() -> dict[str, spec.ProviderSpec]:
    folders = sorted(path.parent.name for path in FOLDER.glob("*/prices.toml"))
    modules = {name: importlib.import_module(f"providers.{name}") for name in folders}
    return {name: module.SPEC for name, module in modules.items()}
