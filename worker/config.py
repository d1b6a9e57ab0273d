"""gristmill.yaml: providers, aliases and prices. Nothing in it is needed; what is in it must be right."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from providers import registry
from worker import settings, windows, yaml_lines
from worker.retention import Policy

# ConfigError
# ├── ConfigUnreadable   the file is not there or cannot be read
# ├── ConfigSyntax       it is not YAML
# └── ConfigInvalid      it says something that cannot be meant


class ConfigError(Exception):
    """The configuration file cannot be used; nothing was started."""


class ConfigUnreadable(ConfigError):
    """The file that GRISTMILL_CONFIG names is not there or cannot be read."""


class ConfigSyntax(ConfigError):
    """The file is not YAML."""


class ConfigInvalid(ConfigError):
    """The file has unknown keys or impossible values; every one is named with its line."""


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Of a provider, and of an account there."""


class ProviderConfig(_Section):
    """Who is paid: a configured provider is a kind with an account, an address and limits of its own."""

    kind: str | None = None
    base_url: str | None = None
    account: Annotated[str, pydantic.Field(pattern=NAME)] = "default"
    api_key: pydantic.SecretStr | None = None
    api_key_file: Path | None = None
    auth: Literal["bearer", "none"] | None = None
    rpm: Annotated[int, pydantic.Field(gt=0)] | None = None
    tpm: Annotated[int, pydantic.Field(gt=0)] | None = None
    input_tpm: Annotated[int, pydantic.Field(gt=0)] | None = None
    output_tpm: Annotated[int, pydantic.Field(gt=0)] | None = None
    rpd: Annotated[int, pydantic.Field(gt=0)] | None = None
    tpd: Annotated[int, pydantic.Field(gt=0)] | None = None
    concurrency: Annotated[int, pydantic.Field(gt=0)] | None = None
    share: Annotated[float, pydantic.Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    headers: Mapping[str, str] = {}
    timeout: Annotated[float, pydantic.Field(gt=0, le=settings.LONGEST_CALL_SECONDS, allow_inf_nan=False)] | None = None
    max_retries: Annotated[int, pydantic.Field(ge=0)] | None = None
    extra_params: Mapping[str, Any] = {}

    @pydantic.field_validator("base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]+", value):
            raise ValueError("must begin with http:// or https:// and name a host")
        return value and value.rstrip("/")

    @pydantic.field_validator("api_key_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.expanduser().is_absolute():
            raise ValueError("must be an absolute path")
        return value and value.expanduser()

    def kind_of(self, name: str) -> str | None:
        """The kind of a provider configured under this name; None if nothing tells."""
        if self.kind is not None:
            return self.kind
        return name if name in registry.names() else "openai_compatible" if self.base_url else None

    @property
    def has_literal_key(self) -> bool:
        """Whether the key itself stands in the file."""
        return self.api_key is not None and not _VARIABLE.search(self.api_key.get_secret_value())

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The variables that ``api_key`` names."""
        text = self.api_key.get_secret_value() if self.api_key else ""
        return tuple(match["name"] for match in _VARIABLE.finditer(text))

    @property
    def missing_variable(self) -> str | None:
        """The variable that ``api_key`` names, if it is not set."""
        matches = _VARIABLE.finditer(self.api_key.get_secret_value() if self.api_key else "")
        return next((match["name"] for match in matches if _value(match) is None), None)

    @property
    def key(self) -> str | None:
        """The key itself, read from the environment where the file names a variable."""
        if self.api_key is None or self.missing_variable:
            return None
        return _VARIABLE.sub(lambda match: _value(match) or "", self.api_key.get_secret_value())


class WeightedModel(_Section):
    """One of the deployments that an alias stands for."""

    model: str
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0

    @pydantic.field_validator("model")
    @classmethod
    def _full(cls, value: str) -> str:
        provider, slash, model = value.partition("/")
        if not (provider and slash and model):
            raise ValueError("must be <provider>/<model>")
        return value


class PriceConfig(_Section):
    """USD per million tokens."""

    input: Annotated[Decimal, pydantic.Field(ge=0)]
    cached_input: Annotated[Decimal, pydantic.Field(ge=0)] | None = None
    output: Annotated[Decimal, pydantic.Field(ge=0)] = Decimal(0)


def _as_list(value: object) -> object:
    return [{"model": value}] if isinstance(value, str) else value


ProviderName = Annotated[str, pydantic.Field(pattern=NAME)]
Deployments = Annotated[tuple[WeightedModel, ...], pydantic.BeforeValidator(_as_list), pydantic.Field(min_length=1)]


def _duration(value: object) -> object:
    if value is None:
        return None
    try:
        return windows.seconds(str(value), standard=windows.DAY)
    except windows.InvalidWindow:
        raise ValueError('must be a duration such as "36h" or "90d", or none') from None


Age = Annotated[Annotated[float, pydantic.Field(gt=0)] | None, pydantic.BeforeValidator(_duration)]


class RetentionConfig(_Section):
    """What is deleted by itself: batches and held jobs so long after their end, files after their upload."""

    batches: Age = None
    held: Age = None
    input_files: Age = None

    @property
    def policy(self) -> Policy:
        return Policy(batches=self.batches, held=self.held, input_files=self.input_files)


class Config(_Section):
    """The whole file."""

    providers: Mapping[ProviderName, ProviderConfig] = {}
    models: Mapping[str, Deployments] = {}
    prices: Mapping[str, PriceConfig] = {}
    limits: Literal["openai", "none"] = "none"
    retention: RetentionConfig = RetentionConfig()

    @pydantic.field_validator("providers", "models", "prices", "retention", mode="before")
    @classmethod
    def _empty_section(cls, value: object) -> object:
        return {} if value is None else value

    @pydantic.field_validator("providers", mode="before")
    @classmethod
    def _empty_provider(cls, value: object) -> object:
        return {name: {} if it is None else it for name, it in value.items()} if isinstance(value, dict) else value

    @pydantic.field_validator("prices")
    @classmethod
    def _full_names(cls, value: Mapping[str, PriceConfig]) -> Mapping[str, PriceConfig]:
        for name in value:
            if "/" not in name:
                raise ValueError(f"{name!r} must be <provider>/<model>")
        return value


def is_name(text: str) -> bool:
    """Whether a provider or an account may be called so."""
    return re.fullmatch(NAME, text) is not None


def load(path: Path | None) -> Config:
    """Read the file; without one everything has its default. Raises ConfigError."""
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigUnreadable(f"The configuration {path} cannot be read: {reason}.") from None
    return parse(text, name=str(path))


def parse(text: str, *, name: str = "gristmill.yaml") -> Config:
    """Raises ConfigSyntax or ConfigInvalid."""
    try:
        document = yaml_lines.read(text)
    except yaml_lines.NotYaml as error:
        raise ConfigSyntax(f"{name}, line {error.line}: {error}.") from None
    problems: list[tuple[yaml_lines.Path, str]] = list(document.duplicates)
    value = _expand(document.value or {}, (), problems)
    config = _validate(value, problems)
    if config is not None:
        problems.extend(_meaningless(config))
    if problems or config is None:
        lines = sorted((document.line(where), where, message) for where, message in dict.fromkeys(problems))
        report = "\n".join(f"  line {line}: {_dotted(where)}: {message}" for line, where, message in lines)
        raise ConfigInvalid(f"{name} is not right:\n{report}")
    return config


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def _value(match: re.Match[str]) -> str | None:
    return settings.environment_value(match["name"]) or match["default"]


def _expand(value: Any, where: yaml_lines.Path, problems: list[tuple[yaml_lines.Path, str]]) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}``, but a provider's key only when it is used: it may never be."""
    if isinstance(value, dict):
        return {key: _expand(it, (*where, key), problems) for key, it in value.items()}
    if isinstance(value, list):
        return [_expand(it, (*where, index), problems) for index, it in enumerate(value)]
    if not isinstance(value, str) or (len(where) == 3 and where[2] == "api_key"):
        return value

    def replace(match: re.Match[str]) -> str:
        found = _value(match)
        if found is None:
            problems.append((where, f"the environment variable {match['name']} is not set"))
        return found or ""

    return _VARIABLE.sub(replace, value)


def _validate(value: Any, problems: list[tuple[yaml_lines.Path, str]]) -> Config | None:
    try:
        return Config.model_validate(value)
    except pydantic.ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            where = tuple(part for part in fault["loc"] if part != "[key]")
            problems.append(_unknown(where) if fault["type"] == "extra_forbidden" else (where, _plain(fault["msg"])))
        return None


def _meaningless(config: Config) -> Iterator[tuple[yaml_lines.Path, str]]:
    """Names that lead nowhere: a kind that is none, an alias of a provider that is none."""
    kinds = registry.names()
    for name, section in config.providers.items():
        kind = section.kind_of(name)
        if kind is None:
            yield ("providers", name), f"needs its kind ({', '.join(kinds)}) or a base_url"
        elif kind not in kinds:
            yield ("providers", name, "kind"), f"unknown kind {kind!r}; {_nearest(kind, kinds)}"
    names = [*config.providers, *(kind for kind in kinds if kind != "openai_compatible")]
    for alias, entries in config.models.items():
        for entry in entries:
            provider = entry.model.partition("/")[0]
            if provider not in names:
                yield ("models", alias), f"unknown provider {provider!r}; {_nearest(provider, names)}"


def _unknown(where: yaml_lines.Path) -> tuple[yaml_lines.Path, str]:
    known = _SECTIONS.get((where[0], len(where)), Config).model_fields
    return where, f"unknown key; {_nearest(str(where[-1]), known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


_SECTIONS: dict[tuple[int | str, int], type[_Section]] = {
    ("providers", 3): ProviderConfig,
    ("models", 4): WeightedModel,
    ("prices", 3): PriceConfig,
    ("retention", 2): RetentionConfig,
}


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text.replace("should be a valid dictionary", "should be a mapping (key: value)")


def _dotted(where: yaml_lines.Path) -> str:
    return ".".join(str(part) for part in where) or "the file"
