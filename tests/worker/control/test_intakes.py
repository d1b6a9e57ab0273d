import threading
from concurrent.futures import ThreadPoolExecutor

from tests.polling import until
from worker.control.intakes import Intakes
from worker.database import DatabaseAway


class Played:
    """An intake that lasts until it is let go."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.let_go = threading.Event()

    def take_in(self, number: int) -> None:
        self.taken.append(number)
        assert self.let_go.wait(20)
        if number == 1:
            raise DatabaseAway("gone")
        if number == 2:
            raise ValueError("a defect")


def test_whoever_comes_when_all_places_are_taken_leaves_its_batch_and_goes() -> None:
    played = Played()
    intakes = Intakes(played, places=2)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(intakes.take_in, number) for number in (1, 2)]
        until(lambda: len(played.taken) == 2)
        for number in (3, 4, 3):
            intakes.take_in(number)
        assert sorted(played.taken) == [1, 2]
        played.let_go.set()
        for one in busy:
            one.result()
    assert sorted(played.taken) == [1, 2, 3, 4]
    intakes.take_in(5)
    assert played.taken[-1] == 5
