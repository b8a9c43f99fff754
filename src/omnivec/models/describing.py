"""`Embedder.describe`: names the classes of vectors, for models that were published with a classifier."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np

from omnivec.errors import UsageError
from omnivec.models.encoder import Encoder
from omnivec.vectors.arrays import numbers
from omnivec.vectors.class_scores import LinearClassifier


class Describing:
    """The members of an `Embedder` that concern the classes of its published classifier."""

    encoder: Encoder
    name: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that `describe` knows; empty if the model was published without a classifier."""
        classifier = self._classifier()
        return () if classifier is None else classifier.names

    def describe(
        self, vectors: Any, k: SupportsIndex = 5, least: float = 0.0
    ) -> list[list[tuple[str, float]]]:
        """Names the classes of vectors, such as what is heard; for models published with a classifier, such as YAMNet.

        A classifier that allows several classes at once, as YAMNet's does, gives each a probability by itself; the
        probabilities of any other sum to 1.

        Args:
            vectors: (n, dim) vectors of this model as `encode` returns them, with all components, and not scaled to
                length 1; or a single one (dim,).
            k: largest number of classes of a vector.
            least: smallest probability of a class that is named.

        Returns:
            For each vector the names of classes with their probabilities, the most probable first.

        Raises:
            UsageError: the model was published without a classifier; vectors of another length; k below 1.

        Examples:
            >>> model = omnivec.load("yamnet")
            >>> model.describe(model.encode(Path("helicopter.wav")), k=2)
            [[('Vehicle', 0.81), ('Helicopter', 0.64)]]
        """
        classifier = self._classifier()
        if classifier is None:
            raise UsageError(
                f"{self.name} was published without a classifier, so that its vectors have no names of classes; one "
                "with a classifier is yamnet, for sounds"
            )
        return classifier.describe(np.atleast_2d(numbers("vectors", vectors)), k, least)

    def _classifier(self) -> LinearClassifier | None:
        """The classifier of a single network; that of another encoder's network would be of other vectors."""
        networks = self.encoder.networks
        return networks[0].model.classifier if len(networks) == 1 and networks[0] is self.encoder else None
