"""`omnivec.classifying`, as it was called before: see `omnivec.tasks.classify`."""

from omnivec.tasks.classify import *  # noqa: F403
