"""The peak term of the meta loss, beside the response term of Eq. 7.

The tracker takes the cell with the highest response. A squared error hardly sees whether a look-alike is a little above
or below the object; this term goes on pushing all of them below it, and unlike the divergence from the label map it
does not punish a response for being high where it should be.

Measured (experiments/LOG.md, fifth round): as the expected label it agrees with the AUC of the tracker where the
divergence from the label map did not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roam_jax.core.model import Predictions
from roam_jax.core.samples import Samples

SHARPNESS = 20.0
"""factor of the response before the softmax"""
NO_LABEL = 1e-12
"""label of a place that is nowhere near the object"""


def peak_term(predictions: Predictions, samples: Samples, *, sharpness: float = SHARPNESS) -> Float[Array, ""]:
    """How badly the place of the maximum is known, in nats: 0 is best.

    Minus the logarithm of the label that one expects at a cell drawn from the softmax of `sharpness` x response,
    averaged over the samples that show the object.
    """
    response, labels = (maps.reshape(maps.shape[0], -1) for maps in (predictions.response, samples.labels))
    logs = jax.nn.log_softmax(sharpness * response, axis=1)
    expected = jax.nn.logsumexp(logs, axis=1, b=labels + NO_LABEL)
    weights = samples.weights * samples.visible
    return -jnp.sum(weights * expected) / jnp.maximum(jnp.sum(weights), 1.0)
