"""`omnivec.lookup`, as it was called before: see `omnivec.models.table`."""

from omnivec.models.table import *  # noqa: F403
