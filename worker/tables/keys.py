"""Keys of rows. A batch has a number (inside, for rows that come in millions) and an id (outside, for everybody)."""

from sqlalchemy import BigInteger, Integer

LINE_BITS = 32

SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""A key that is SQLite's own row number, which needs no index."""


def job_id(batch: int, line: int) -> int:
    """The key of a line's job: input order is key order, and no sequence has to be asked for it."""
    return batch << LINE_BITS | line


def job_batch(job: int) -> int:
    return job >> LINE_BITS


def job_line(job: int) -> int:
    return job & (1 << LINE_BITS) - 1
