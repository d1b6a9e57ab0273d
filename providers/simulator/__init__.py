"""The built-in simulator: a provider that costs nothing and calls nobody."""

from providers import spec

SPEC = spec.ProviderSpec(
    name="simulator",
    title="Built-in simulator",
    docs_url="https://platform.openai.com/docs/api-reference",
    wire="openai",
    base_url="http://127.0.0.1:8081/v1",
    needs_key=False,
    endpoints=frozenset({"chat/completions", "embeddings", "completions"}),
)
