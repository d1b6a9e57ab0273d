"""How long the work takes at best: what the limits alone cost."""

from collections.abc import Sequence

from bench.case import Case


def seconds(case: Case, tokens_per_call: float) -> float | None:
    """None where nothing but CPU bounds it."""
    behaviour = case.behaviour
    times = [_at_once(case)]
    if behaviour.rpm:
        limits = [(0.0, behaviour.rpm), *((change.at, change.rpm) for change in case.changes)]
        part = case.told.share or 1.0
        shared = [(begin, limit * part) for begin, limit in limits]
        times.append(drained(case.lines, shared, behaviour.burst) + behaviour.latency)
    if behaviour.tpm:
        amount = case.lines * tokens_per_call
        times.append(drained(amount, [(0.0, behaviour.tpm)], behaviour.burst) + behaviour.latency)
    return max(times) or None


def _at_once(case: Case) -> float:
    """Rounds of calls, where only latency bounds them."""
    if not case.ideal_at_once:
        return 0.0
    return -(-case.lines // case.ideal_at_once) * case.behaviour.latency


def drained(amount: float, limits: Sequence[tuple[float, float]], burst: float) -> float:
    """Until a full bucket has given so much; ``limits`` are (from this second on, so much a minute)."""
    left = amount - limits[0][1] * burst / 60
    for place, (begin, per_minute) in enumerate(limits):
        end = limits[place + 1][0] if place + 1 < len(limits) else float("inf")
        needed = max(0.0, left) * 60 / per_minute
        if begin + needed <= end:
            return begin + needed
        left -= (end - begin) * per_minute / 60
    return limits[-1][0]
