import datetime
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import genai, price, price_table, pricing, registry, usage

MILLION = usage.Usage(input_tokens=1_000_000, output_tokens=1_000_000)
tokens = st.integers(0, 500_000)


def picousd(found, used):
    """What a price that must be known makes of it."""
    assert found is not None
    known = found.cost(used)
    assert known is not None
    return known.picousd


def input_rate(found, input_tokens):
    assert found is not None
    rates = found.rates(input_tokens)
    assert rates is not None
    return rates.input // 10**12


def cost(book, kind, model, used=MILLION, **where):
    found = book.price(kind, model, **where)
    return found.cost(used) if found else None


def test_the_configuration_wins_then_the_folder_then_genai_prices():
    book = pricing.PriceBook({"openai/gpt-4o": {"input": 1, "output": "2.5"}, "vllm/*": {"input": 0, "output": 0}})
    assert cost(book, "openai", "gpt-4o").picousd == 3_500_000_000_000
    assert cost(book, "openai", "gpt-4o").source == "config"
    embedded = usage.Usage(input_tokens=7)
    assert cost(book, "openai", "text-embedding-3-small", embedded).source == "table:2024-01-25"
    assert cost(book, "openai", "gpt-4o-mini").source == f"genai-prices:{genai_prices.__version__}"
    assert cost(book, "openai_compatible", "anything", provider="vllm").picousd == 0


def test_an_unknown_price_is_none_and_not_nothing():
    book = pricing.PriceBook()
    assert book.price("openai", "gpt-nope-99") is None
    assert book.price("openai_compatible", "gpt-4o") is None
    assert book.price("simulator", "nope") is None


def test_output_without_an_output_price_is_unknown():
    book = pricing.PriceBook({"a/b": {"input": 2, "output": None, "cached_input": None}})
    assert cost(book, "openai_compatible", "b", provider="a") is None
    assert cost(book, "openai_compatible", "b", usage.Usage(input_tokens=3), provider="a").picousd == 6_000_000


def test_a_billing_without_rates_is_unknown():
    book = pricing.PriceBook()
    for billing in ("audio", "scale", "flex"):
        used = usage.Usage(input_tokens=5, output_tokens=5, billing=billing)
        assert cost(book, "openai", "gpt-4o-mini", used) is None


def test_prices_follow_the_date():
    book = pricing.PriceBook()
    old = cost(book, "openai", "o3", at=datetime.date(2025, 6, 1))
    new = cost(book, "openai", "o3", at=datetime.datetime(2025, 7, 1, tzinfo=datetime.UTC))
    assert (old.picousd, new.picousd) == (50_000_000_000_000, 10_000_000_000_000)


def test_long_input_pays_the_band_for_all_tokens():
    found = pricing.PriceBook().price("openai", "gpt-5.6", at=datetime.date(2026, 11, 1))
    assert input_rate(found, 272_000) == 4
    assert input_rate(found, 272_001) == 8


def test_a_price_is_resolved_once():
    book = pricing.PriceBook()
    day = datetime.date(2026, 11, 1)
    assert book.price("openai", "gpt-4o", at=day) is book.price("openai", "gpt-4o", at=day)


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(pricing, "_MAX_CACHED", 10)
    book = pricing.PriceBook()
    for number in range(50):
        book.price("simulator", f"tiny-{number}")
    assert len(book._found) <= 10


@pytest.mark.parametrize("said", [{}, {"input": -1}, {"input": "NaN"}, {"input": 1, "inptu": 2}, {"input": "cheap"}])
def test_a_wrong_price_is_refused_by_name(said):
    with pytest.raises(ValueError, match="price of a/b"):
        pricing.PriceBook({"a/b": said})


@given(
    tokens,
    tokens,
    tokens,
    tokens,
    tokens,
    st.sampled_from(["gpt-4o-mini", "gpt-5.6", "gpt-5", "gpt-3.5-turbo-instruct"]),
)
def test_our_integers_agree_with_genai_prices(plain, cached, written, output, reasoning, model):
    at = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    used = usage.Usage(
        input_tokens=plain + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
    )
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=used.input_tokens,
            cache_read_tokens=cached,
            cache_write_tokens=written,
            output_tokens=used.output_tokens,
            output_reasoning_tokens=reasoning,
        ),
        model,
        provider_id="openai",
        genai_request_timestamp=at,
    )
    ours = picousd(genai.find("openai", model, at), used)
    assert abs(ours - theirs.total_price * 10**12) <= Decimal("0.5")


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.decimals(0, 1000, places=7))
def test_cost_is_exact(into, out, usd):
    rates = price.Rates.of_usd(input=usd, output=usd * 2)
    found = price.Price(bands={"standard": (price.Band(above=-1, rates=rates),)}, source="x")
    exact = (into * usd + out * usd * 2) * 10**6
    assert abs(picousd(found, usage.Usage(input_tokens=into, output_tokens=out)) - exact) <= Decimal("0.5")


@pytest.mark.parametrize("kind", registry.names())
def test_no_table_contradicts_genai_prices(kind):
    known_as = registry.get(kind).genai_prices
    at = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    for model, ours in price_table.of_provider(kind).prices.items():
        theirs = genai.find(known_as, model, at) if known_as else None
        assert theirs is None or theirs.bands["standard"] == ours.bands["standard"]


def test_an_exact_name_wins_over_patterns_and_a_longer_pattern_over_a_shorter():
    table = price_table.PriceTable.read({"a*": {"input": 1}, "ab*": {"input": 2}, "abc": {"input": 3}}, "x")
    found = [input_rate(table.find(name), 1) for name in ("ax", "abx", "abc")]
    assert found == [1, 2, 3]
    assert table.find("b") is None
