"""An evaluation of 20 samples; the last ten are answered after a while."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes

QUICK, SLOW = 10, 10
SECONDS = 6


@task
def mill() -> Task:
    samples = [
        Sample(
            id=n,
            input=f'{f"[[delay={SECONDS}]]" if n >= QUICK else ""} [[say="answer {n}."]] nonce:inspect-{n}',
            target=f"answer {n}.",
        )
        for n in range(QUICK + SLOW)
    ]
    return Task(dataset=samples, scorer=includes())
