"""gristmill.yaml: providers, aliases and prices. Nothing in it is needed; what is in it must be right."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from providers import registry
from worker import alias_config, settings, windows, yaml_lines
from worker.alias_config import AliasConfig, FallbacksConfig, Section, WeightedModel
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


NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Of a provider, and of an account there."""


def _absolute(value: Path | None) -> Path | None:
    if value is not None and not value.expanduser().is_absolute():
        raise ValueError("must be an absolute path")
    return value and value.expanduser()


Limit = Annotated[int, pydantic.Field(gt=0)] | None
AbsolutePath = Annotated[Path | None, pydantic.AfterValidator(_absolute)]


class AccountConfig(Section):
    """One of several accounts at a provider: a key and a quota of its own. What it leaves out the provider says."""

    api_key: pydantic.SecretStr | None = None
    api_key_file: AbsolutePath = None
    rpm: Limit = None
    tpm: Limit = None
    input_tpm: Limit = None
    output_tpm: Limit = None
    rpd: Limit = None
    tpd: Limit = None
    concurrency: Limit = None
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0


AccountName = Annotated[str, pydantic.Field(pattern=NAME)]


class ProviderConfig(Section):
    """Who is paid: a configured provider is a kind with an account, an address and limits of its own."""

    kind: str | None = None
    base_url: str | None = None
    account: AccountName = "default"
    accounts: Mapping[AccountName, AccountConfig] = {}
    api_key: pydantic.SecretStr | None = None
    api_key_file: AbsolutePath = None
    auth: Literal["bearer", "none"] | None = None
    rpm: Limit = None
    tpm: Limit = None
    input_tpm: Limit = None
    output_tpm: Limit = None
    rpd: Limit = None
    tpd: Limit = None
    concurrency: Limit = None
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

    @pydantic.model_validator(mode="after")
    def _keys_in_one_place(self) -> Self:
        both = self.model_fields_set & {"account", "api_key", "api_key_file"}
        if self.accounts and both:
            raise ValueError(f"has accounts: {' and '.join(sorted(both))} must be said of each of them")
        return self

    def of_account(self, name: str) -> "ProviderConfig":
        """The section as it counts for one account."""
        if name not in self.accounts:
            return self
        said = self.accounts[name]
        own = {field: getattr(said, field) for field in said.model_fields_set - {"weight"}}
        return self.model_copy(update={**own, "account": name, "accounts": {}})

    def weight_of(self, account: str) -> float:
        """The part of the provider's load that an account takes."""
        return self.accounts[account].weight if account in self.accounts else 1.0

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


class PriceConfig(Section):
    """USD per million tokens."""

    input: Annotated[Decimal, pydantic.Field(ge=0)]
    cached_input: Annotated[Decimal, pydantic.Field(ge=0)] | None = None
    output: Annotated[Decimal, pydantic.Field(ge=0)] = Decimal(0)


ProviderName = Annotated[str, pydantic.Field(pattern=NAME)]


def _duration(value: object) -> object:
    if value is None:
        return None
    try:
        return windows.seconds(str(value), standard=windows.DAY)
    except windows.InvalidWindow:
        raise ValueError('must be a duration such as "36h" or "90d", or none') from None


Age = Annotated[Annotated[float, pydantic.Field(gt=0)] | None, pydantic.BeforeValidator(_duration)]


class RetentionConfig(Section):
    """What is deleted by itself: batches and held jobs so long after their end, files after their upload."""

    batches: Age = None
    held: Age = None
    input_files: Age = None

    @property
    def policy(self) -> Policy:
        return Policy(batches=self.batches, held=self.held, input_files=self.input_files)


class Config(Section):
    """The whole file."""

    providers: Mapping[ProviderName, ProviderConfig] = {}
    models: Mapping[str, AliasConfig] = {}
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
    if not isinstance(value, str) or (where[0] == "providers" and where[-1] == "api_key"):
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
            where = _as_written(value, tuple(part for part in fault["loc"] if part != "[key]"))
            problems.append(_unknown(where) if fault["type"] == "extra_forbidden" else (where, _plain(fault["msg"])))
        return None


def _as_written(value: Any, where: yaml_lines.Path) -> yaml_lines.Path:
    """The short forms of an alias say ``deployments`` without the word."""
    short = (
        where[:1] == ("models",) and where[2:3] == ("deployments",) and not isinstance(value["models"][where[1]], dict)
    )
    return where[:2] + where[3:] if short else where


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
    for alias, meant in config.models.items():
        for entry in meant.deployments:
            if entry.provider not in names:
                yield ("models", alias), f"unknown provider {entry.provider!r}; {_nearest(entry.provider, names)}"
        for fallback, place, name in meant.fallbacks.named():
            if problem := _wrong_fallback(config, names, alias, name):
                yield ("models", alias, "fallbacks", str(fallback), place), problem
    for alias, fallback, way in alias_config.loops(config.models):
        yield ("models", alias, "fallbacks", str(fallback)), f"comes back to itself: {' -> '.join(way)}"


def _wrong_fallback(config: Config, providers: Sequence[str], alias: str, name: str) -> str | None:
    """No real model is ever replaced by the simulator."""
    provider, slash, model = name.partition("/")
    if name not in config.models and not (slash and model and provider in providers):
        known = [*config.models, *(f"{one}/{model or '<model>'}" for one in providers)]
        return f"{name!r} is neither an alias nor <provider>/<model>; {_nearest(name, known)}"
    leads_to = _kinds(config, name)
    if "simulator" in leads_to and _kinds(config, alias) != {"simulator"}:
        return f"{name!r} is simulated: nothing else may fall back to it"
    return None


def _kinds(config: Config, name: str) -> set[str | None]:
    """The kinds of provider that an alias or ``provider/model`` leads to."""
    alias = config.models.get(name)
    providers = [name.partition("/")[0]] if alias is None else [entry.provider for entry in alias.deployments]
    return {config.providers.get(one, ProviderConfig()).kind_of(one) for one in providers}


def _unknown(where: yaml_lines.Path) -> tuple[yaml_lines.Path, str]:
    known = _section(where).model_fields
    return where, f"unknown key; {_nearest(str(where[-1]), known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _section(where: yaml_lines.Path) -> type[Section]:
    """Whose key ``where`` would be."""
    match where:
        case ("models", _, "fallbacks", _):
            return FallbacksConfig
        case ("models", _, _, _) | ("models", _, "deployments", _, _):
            return WeightedModel
        case ("providers", _, "accounts", _, _):
            return AccountConfig
    return _SECTIONS.get((where[0], len(where)), Config)


_SECTIONS: dict[tuple[int | str, int], type[Section]] = {
    ("providers", 3): ProviderConfig,
    ("models", 3): AliasConfig,
    ("prices", 3): PriceConfig,
    ("retention", 2): RetentionConfig,
}


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text.replace("should be a valid dictionary", "should be a mapping (key: value)")


def _dotted(where: yaml_lines.Path) -> str:
    return ".".join(str(part) for part in where) or "the file"
