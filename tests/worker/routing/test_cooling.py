from worker.routing.cooling import FAILURES, Cooling


def test_some_failures_in_a_row_cool_a_scope() -> None:
    cooling = Cooling()
    assert [cooling.stumbled("a", 60.0) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert 59 < cooling.left("a") <= 60 and cooling.left("b") == 0


def test_an_answer_between_them_ends_the_streak() -> None:
    cooling = Cooling()
    for _ in range(10 * FAILURES):
        for _ in range(FAILURES - 1):
            assert not cooling.stumbled("a", 60.0)
        cooling.fine("a")
    assert cooling.left("a") == 0


def test_what_others_found_counts_and_ends_by_itself() -> None:
    cooling = Cooling()
    cooling.refresh({"a": 60.0, "b": 0.0})
    cooling.refresh({"a": 5.0})
    assert cooling.left("a") > 50 and cooling.left("b") == 0
