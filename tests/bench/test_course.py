import math

from bench import course


def test_a_limit_is_recovered_when_calls_go_at_its_full_rate_again() -> None:
    slow = [(float(second), 10 * second) for second in range(20)]
    quick = [(20.0 + second, 200 + 50 * second) for second in range(20)]
    assert course.recovery([*slow, *quick], 15.0, 50.0) == 5.0
    assert course.recovery([*slow, *quick], 25.0, 50.0) == 0.0


def test_a_rate_that_never_returns_is_never_recovered() -> None:
    looks = [(float(second), 10 * second) for second in range(20)]
    assert math.isinf(course.recovery(looks, 5.0, 50.0))
    assert math.isinf(course.recovery([], 5.0, 50.0))
