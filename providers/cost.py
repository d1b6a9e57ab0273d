"""Money."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """An exact amount with its source. An unknown cost is None, never a Cost of 0."""

    picousd: int  # 1e-12 USD
    source: str  # "provider" | "config" | "table:2026-11-01" | "genai-prices:0.2.3"
