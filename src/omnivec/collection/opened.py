"""What all parts of a `Collection` share: its folder, its catalogue, and its models."""

from __future__ import annotations

from pathlib import Path

from omnivec.collection.file_names import FileNames
from omnivec.collection.ranking import Ranking
from omnivec.collection.spaces import Spaces
from omnivec.store.sqlite import Catalogue


class Opened:
    """An open collection; `Collection.__init__` sets the attributes.

    Attributes:
        folder: the directory of the collection, absolute.
    """

    folder: Path
    _catalogue: Catalogue
    _names: FileNames
    _ranking: Ranking
    _spaces: Spaces
