"""`omnivec.typed`, as it was called before: see `omnivec.validation.typed`."""

from omnivec.validation.typed import *  # noqa: F403
