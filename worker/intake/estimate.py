"""How many tokens a line will take, guessed before the call: for quotas and for the price said in advance."""

from typing import Any

BYTES_PER_TOKEN = 4
OUTPUT_GUESS = 400
"""Output tokens of a line that names no maximum."""
IMAGE_TOKENS = 800
"""An image sent inline counts as this, not by its base64 length."""


def input_tokens(body: dict[str, Any], length: int) -> int:
    """``length`` is the body's in bytes."""
    images, bytes_of_images = _inline_images(body.get("messages")) if length > 4096 else (0, 0)
    return max(1, (length - bytes_of_images) // BYTES_PER_TOKEN) + images * IMAGE_TOKENS


def output_tokens(endpoint: str, body: dict[str, Any]) -> int:
    if endpoint == "embeddings":
        return 0
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    choices = body.get("n")
    each = most if isinstance(most, int) and most > 0 else OUTPUT_GUESS
    return each * (choices if isinstance(choices, int) and choices > 0 else 1)


def _inline_images(messages: Any) -> tuple[int, int]:
    """How many, and their bytes."""
    count = size = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            data = _inline_image(part) if isinstance(part, dict) else None
            if data is not None:
                count, size = count + 1, size + len(data)
    return count, size


def _inline_image(part: dict[str, Any]) -> str | None:
    """Of OpenAI's ``image_url``, or of Anthropic's ``source``."""
    image, source = part.get("image_url"), part.get("source")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and url.startswith("data:"):
        return url
    data = source.get("data") if isinstance(source, dict) else None
    return data if isinstance(data, str) else None
