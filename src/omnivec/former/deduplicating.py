"""`omnivec.deduplicating`, as it was called before: see `omnivec.tasks.duplicates`."""

from omnivec.tasks.duplicates import *  # noqa: F403
