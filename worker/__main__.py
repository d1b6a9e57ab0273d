"""``python -P -m worker gristmill-worker``: never by ``celery -A``, which would import from the working directory."""

import sys

from worker.process import main

sys.exit(main())
