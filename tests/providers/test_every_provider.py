"""The same suite for every provider folder and every sample in it: found by listing, nothing to maintain."""

import asyncio
import datetime
import fnmatch
import itertools
import json
import pathlib

import httpx
import pytest

from providers import call, client, deployment, errors, pricing, registry, request, result, secret, wire

SAMPLES = sorted(registry.FOLDER.glob("*/samples/*.json"))
# Its answers are held against the official SDKs' models by its own tests.
WITHOUT_SAMPLES = {"simulator"}


def exchange(path: pathlib.Path):
    """The sample, and what a call made of it."""
    sample, spec = json.loads(path.read_text()), registry.get(path.parent.parent.name)
    said = sample["answer"]["body"]
    content = said.encode() if isinstance(said, str) else json.dumps(said, indent=2).encode()
    seen = []

    def answer(sent: httpx.Request) -> httpx.Response:
        seen.append(sent)
        return httpx.Response(sample["answer"]["status"], headers=sample["answer"]["headers"], content=content)

    body = json.dumps(sample["request"]).encode()
    model = json.dumps(sample["request"]["model"]).encode()
    asked = request.ProviderRequest(
        endpoint=sample["endpoint"],
        model=sample["request"]["model"],
        body=body,
        model_offset=body.index(model),
        model_length=len(model),
    )
    to = deployment.Deployment(
        provider=spec.name, spec=spec, model=asked.model, base_url=spec.base_url, api_key=secret.Secret("sk-test")
    )

    async def run():
        async with client.Client(transport=httpx.MockTransport(answer)) as opened:
            try:
                return await call.call(opened, to, asked)
            except errors.ProviderError as error:
                return error

    return sample, asked, seen, asyncio.run(run())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_sample(path):
    sample, asked, seen, got = exchange(path)
    expected = sample["expected"]
    assert len(seen) == 1
    assert "sk-test" not in str(seen[0].url)
    if "error" in expected:
        check_error(got, sample)
    else:
        check_result(got, sample, asked, path.parent.parent.name)


def check_result(got, sample, asked, kind):
    assert isinstance(got, result.ProviderResult), got
    expected = sample["expected"]
    assert json.loads(got.body) == sample["answer"]["body"]
    assert b"\n" not in got.body
    assert got.ending == expected["ending"]
    usage = {"cached_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "billing": "standard"}
    wanted = expected["usage"]
    assert got.usage is None if wanted is None else got.usage is not None and as_dict(got.usage) == usage | wanted
    for name in expected.keys() & {"model", "fingerprint", "request_id"}:
        assert getattr(got, name) == expected[name]
    if "headers" in expected:
        assert sorted(got.headers) == expected["headers"]
    if "picousd" in expected:
        price = pricing.PriceBook().price(kind, asked.model, at=datetime.date(2026, 11, 1))
        cost = price.cost(got.usage) if price and got.usage else None
        assert (cost.picousd if cost else None) == expected["picousd"]


def check_error(got, sample):
    expected = sample["expected"]
    assert isinstance(got, errors.ProviderError), got
    assert type(got).__name__ == expected["error"]
    assert repr(got.verdict) == expected["verdict"]
    assert got.may_be_billed == expected.get("may_be_billed", False)
    for name in expected.keys() & {"code", "type", "param"}:
        assert getattr(got, name) == expected[name]
    public = json.loads(got.public_body())
    assert public["error"].keys() >= {"message", "type", "param", "code"}
    assert isinstance(public["error"]["code"], str | None)
    assert b"\n" not in got.public_body()
    if "own_body" in expected:
        assert (public == sample["answer"]["body"]) == expected["own_body"]
    status = sample["answer"]["status"]
    assert got.public_status() == (status if status >= 400 else 502)


def as_dict(usage):
    return {name: getattr(usage, name) for name in type(usage).__slots__}


@pytest.mark.parametrize("kind", registry.names())
def test_folder_is_whole(kind):
    spec = registry.get(kind)
    assert spec.name == kind
    assert callable(wire.get(spec.wire).read)
    assert not spec.base_url.endswith("/")
    assert spec.needs_key == bool(spec.key_env)
    assert pricing.PriceBook().price(kind, "no-such-model-at-all") is None
    assert kind in WITHOUT_SAMPLES or any(path.parent.parent.name == kind for path in SAMPLES)


def test_no_model_name_is_claimed_twice():
    claims = [(kind, pattern) for kind in registry.names() for pattern in registry.get(kind).known_models]
    for (one, name), (other, pattern) in itertools.permutations(claims, 2):
        assert one == other or not fnmatch.fnmatchcase(name.replace("*", "x"), pattern)
