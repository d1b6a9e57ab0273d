"""OpenAI."""

from providers import spec

SPEC = spec.ProviderSpec(
    counts_maximum=True,
    name="openai",
    title="OpenAI",
    docs_url="https://platform.openai.com/docs/api-reference",
    wire="openai",
    base_url="https://api.openai.com/v1",
    key_env=("OPENAI_API_KEY",),
    base_url_env="OPENAI_BASE_URL",
    endpoints=frozenset({"chat/completions", "embeddings", "completions"}),
    output_limit="max_completion_tokens",  # its reasoning models refuse max_tokens
    known_models=("gpt-*", "chatgpt-*", "o[1-9]*", "ft:*", "text-embedding-*", "davinci-002", "babbage-002"),
    genai_prices="openai",
)
