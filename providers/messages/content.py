"""Blocks of text and images, which both dialects have."""

import typing

from providers.messages.fields import Fields, Json, Refused

Content = str | list[Json]

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def texts(value: object, where: str) -> Content:
    """A string, or blocks that may only be text."""
    return value if isinstance(value, str) else folded([text(block) for block in blocks(value, where)])


def blocks(value: object, where: str) -> list[Fields]:
    if not isinstance(value, list):
        raise Refused(where, "must be a string or a list of blocks")
    return [Fields(block, f"{where}.{place}") for place, block in enumerate(value)]


def kind(block: Fields) -> str:
    """The block's type, with what only steers the cache taken off: OpenAI's providers cache by themselves."""
    block.take("cache_control")
    return typing.cast(str, block.need("type", str))


def text(block: Fields) -> Json:
    return part(block, kind(block), images=False)


def part(block: Fields, kind: str, *, images: bool = True) -> Json:
    """One part of a message. Raises Refused for blocks that OpenAI's dialect does not have."""
    if kind == "text":
        made = {"type": "text", "text": block.need("text", str)}
    elif kind == "image" and images:
        made = {"type": "image_url", "image_url": {"url": _url(Fields(block.need("source"), block.at("source")))}}
    else:
        raise block.refused("type", f"a block of type {kind[:40]!r} cannot be passed on here")
    block.close()
    return made


def folded(parts: list[Json]) -> Content:
    """A single text as a string: many servers and chat templates take nothing else."""
    if not parts:
        return ""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _url(source: Fields) -> str:
    if source.need_one_of("type", "base64", "url") == "url":
        url = source.need("url", str)
    else:
        media = source.need_one_of("media_type", *IMAGE_TYPES)
        url = f"data:{media};base64,{source.need('data', str)}"
    source.close()
    return str(url)
