from typing import Any

import pytest

from worker.intake import estimate


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 40_000}},
    ],
)
def test_an_image_counts_as_one_and_not_by_its_bytes(image: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, image]}]}
    assert estimate.IMAGE_TOKENS <= estimate.input_tokens(body, 40_100) < estimate.IMAGE_TOKENS + 100


def test_a_linked_image_is_its_text() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://h/x.png"}}
    assert estimate.input_tokens({"messages": [{"role": "user", "content": [image]}]}, 8_000) == 2_000


def test_the_output_is_what_the_request_allows() -> None:
    assert estimate.output_tokens("messages", {"max_tokens": 64}) == 64
