"""Jobs that go on with a fallback: out of their slice, into a new one for the dispatcher."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, insert, select, update

from worker import tables
from worker.store import slices
from worker.store.calls import Ended
from worker.tables import JOB, SLICE


def regroup(connection: Connection, trail: str, ends: Sequence[Ended]) -> int:
    """The id of a slice for the jobs of these ends, which all come from one slice. No attempt of theirs is spent.

    The caller holds the locks of batch and old slice, and has counted the jobs out of it.
    """
    first, jobs = ends[0], sorted(end.job for end in ends)
    tokens = select(func.sum(JOB.c.input_tokens + JOB.c.output_tokens)).where(JOB.c.id.in_(jobs))
    values = slices.fresh(
        owner=first.owner,
        batch=first.batch,
        generation=first.generation,
        route=first.route,
        first_line=tables.job_line(jobs[0]),
        jobs=len(jobs),
        tokens=connection.execute(tokens).scalar_one(),
        trail=trail,
    )
    new: int = connection.execute(insert(SLICE).values(values).returning(SLICE.c.id)).scalar_one()
    connection.execute(
        update(JOB).where(JOB.c.id == bindparam("job")).values(slice=new, attempts=0, not_before=None),
        [{"job": job} for job in jobs],
    )
    return new
