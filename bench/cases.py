"""All cases. Whoever measures reads here what is measured."""

from collections.abc import Iterator

from bench.case import Aim, Behaviour, Case, Change, Told

EVERYONE = ("aiohttp_once", "aiohttp_retries", "cookbook", "openai_sdk", "litellm_router")
PATIENT = EVERYONE[1:]
"""Those who ask again."""

NOTHING_LOST = (Aim(figure="lost", at_most=0), Aim(figure="calls_after_ok", at_most=0))
MANNERS = (*NOTHING_LOST, Aim(figure="early_retries", at_most=0))
EVERY_SIZE = (200, 600, 1_400, 3_800)
"""Characters of mixed prompts: about 50 to 950 tokens."""
BURSTS = {"smooth": 1.0, "bucket": 60.0}


def every() -> tuple[Case, ...]:
    return tuple(_every())


def _every() -> Iterator[Case]:
    yield Case(
        name="zero",
        title="An answer at once, no limit",
        lines=20_000,
        behaviour=Behaviour(),
        aims=(Aim(figure="cpu_ms", at_most=0.5), *MANNERS),
        peers=EVERYONE,
    )
    yield from _latency()
    yield from _requests()
    yield from _unannounced()
    yield from _tokens()
    yield from _changing()
    yield from _shared()
    yield from _faults()
    yield from _company()
    yield Case(
        name="million",
        title="1,000,000 lines, an answer at once",
        lines=1_000_000,
        behaviour=Behaviour(),
        aims=(Aim(figure="rss_mb", at_most=300), Aim(figure="cpu_ratio", at_most=1.15), *MANNERS),
        against="zero",
        is_slow=True,
    )


def _latency() -> Iterator[Case]:
    for name, told, least in (("told", Told(concurrency=1_000), 950), ("untold", Told(), 750)):
        configured = "configured" if name == "told" else "not configured"
        yield Case(
            name=f"latency_{name}",
            title=f"1 s until an answer, no limit, 1,000 at once {configured}",
            lines=20_000,
            behaviour=Behaviour(latency=1.0),
            told=told,
            aims=(Aim(figure="rate", at_least=least), *MANNERS),
            peers=EVERYONE if name == "told" else (),
            at_once=1_000,
            ideal_at_once=1_000,
        )


def _requests() -> Iterator[Case]:
    for shape, burst in BURSTS.items():
        for name, told in (("told", Told(rpm=3_000)), ("untold", Told())):
            yield Case(
                name=f"rpm_{shape}_{name}",
                title=f"3,000 requests a minute, {shape}, {_said(name)}, two workers",
                lines=5_000,
                behaviour=Behaviour(latency=0.5, rpm=3_000, burst=burst),
                told=told,
                workers=2,
                aims=_within(1.05, refused=0.01),
                peers=PATIENT,
                at_once=200,
            )


def _unannounced() -> Iterator[Case]:
    for shape, burst in BURSTS.items():
        yield Case(
            name=f"headerless_{shape}",
            title=f"3,000 requests a minute, {shape}, not told, no rate headers, two workers",
            lines=5_000,
            behaviour=Behaviour(latency=0.5, rpm=3_000, burst=burst, headers=False),
            workers=2,
            aims=_within(1.15, refused=0.03),
            at_once=200,
        )


def _tokens() -> Iterator[Case]:
    for shape, burst in BURSTS.items():
        for name, told in (("told", Told(tpm=900_000)), ("untold", Told())):
            yield Case(
                name=f"tpm_{shape}_{name}",
                title=f"900,000 tokens a minute, {shape}, {_said(name)}, prompts of mixed sizes, two workers",
                lines=3_600,
                sizes=EVERY_SIZE,
                behaviour=Behaviour(latency=0.5, tpm=900_000, burst=burst),
                told=told,
                workers=2,
                aims=_within(1.08, refused=0.01),
                peers=("cookbook",) if name == "told" else (),
                at_once=200,
            )


def _changing() -> Iterator[Case]:
    yield Case(
        name="halved",
        title="3,000 requests a minute, smooth, not told; half of it from second 30 to 60, two workers",
        lines=5_000,
        behaviour=Behaviour(latency=0.5, rpm=3_000, burst=1.0),
        workers=2,
        changes=(Change(at=30.0, rpm=1_500), Change(at=60.0, rpm=3_000)),
        aims=(*_within(1.08, refused=0.01), Aim(figure="recovery", at_most=30)),
    )


def _shared() -> Iterator[Case]:
    for name, told in (("told", Told(rpm=3_000, share=0.7)), ("untold", Told(share=0.7))):
        yield Case(
            name=f"share_{name}",
            title=f"share 0.7 of 3,000 requests a minute, {_said(name)}, beside a client that takes the other 30 %",
            lines=2_100,
            behaviour=Behaviour(latency=0.5, rpm=3_000, burst=1.0),
            told=told,
            workers=2,
            rival=15.0,
            aims=(Aim(figure="rival_share", at_least=0.95), *MANNERS),
        )


def _faults() -> Iterator[Case]:
    usual = {"500": 0.05, "429": 0.02, "cut": 0.01}
    poison = dict.fromkeys(("garbage", "reset", "empty", "503"), 0.01)
    for name, faults in (("faults", usual), ("poison", poison)):
        yield Case(
            name=name,
            title=", ".join(f"{chance:.0%} {fault}" for fault, chance in faults.items()) + ", 50 ms",
            lines=5_000,
            behaviour=Behaviour(latency=0.05, faults=faults),
            told=Told(concurrency=100),
            aims=(
                Aim(figure="calls_per_line", at_most=1.1),
                Aim(figure="floor_ratio", at_most=1.2),
                Aim(figure="empty_unmarked", at_most=0),
                *MANNERS,
            ),
            peers=EVERYONE,
        )


def _company() -> Iterator[Case]:
    yield Case(
        name="five",
        title="Five providers, one with a dead key, one slow: the other three against their time alone",
        lines=1_000,
        behaviour=Behaviour(latency=0.2, rpm=3_000, burst=1.0),
        told=Told(rpm=3_000),
        aims=(Aim(figure="company_ratio", at_most=1.1),),
        trial="five",
    )
    yield Case(
        name="beside",
        title="20 lines beside 100,000 at 300 requests a minute: against their time alone on a drained bucket",
        lines=100_000,
        behaviour=Behaviour(latency=0.5, rpm=300, burst=1.0),
        told=Told(rpm=300),
        sizes=(200,),
        aims=(Aim(figure="company_ratio", at_most=1.5), Aim(figure="lost", at_most=0)),
        trial="beside",
    )


def _said(name: str) -> str:
    return "not told" if name == "untold" else name


def _within(over: float, *, refused: float) -> tuple[Aim, ...]:
    return (Aim(figure="over_ideal", at_most=over), Aim(figure="refused_share", at_most=refused), *MANNERS)
