import resource
import subprocess
import sys

import pytest

from worker import open_files

LIMITED = """
import resource
from worker import open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
open_files.allow(1000)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "got"), [(4096, 4096), (512, 512)])
def test_the_soft_limit_is_raised_as_far_as_it_may(hard: int, got: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED.format(hard=hard)], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(ended.stdout) == got
    assert ("too few for 1000 calls" in ended.stderr) == (hard == 512)


def test_what_is_enough_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files.allow(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == before[1]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
