"""`omnivec.lookup`, as it was called before: see `omnivec.models.table`."""

from omnivec.families._hooks import Labels  # noqa: F401
from omnivec.models.table import *  # noqa: F403
