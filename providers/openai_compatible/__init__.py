"""Any server that speaks OpenAI's dialect: vLLM, llama.cpp, Ollama, LM Studio, a gateway."""

from providers import spec

SPEC = spec.ProviderSpec(
    name="openai_compatible",
    title="OpenAI-compatible server",
    docs_url="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    wire="openai",
    base_url="http://localhost:8000/v1",
    needs_key=False,
    endpoints=frozenset({"chat/completions", "embeddings", "completions"}),
)
