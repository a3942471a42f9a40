"""The labels of whole sequences, from models that end with a CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count
from bilstm.engine.network import Network, Paths
from bilstm.engine.plans import PRECISIONS, Targets
from bilstm.layers import CRF
from bilstm.models.calls import chunks
from bilstm.models.fitting import check_finite
from bilstm.models.targets import make_targets
from bilstm.ragged import FloatArray, Ragged, as_ragged

if TYPE_CHECKING:
    from bilstm.models import Sequential

MOST_PATHS = 1000


def decode(
    model: Sequential, x: Any, paths: int, precision: str
) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]:
    """See `Sequential.decode`; labels are (total_steps,) here, -1 at masked steps."""
    check_choice("decode", "precision", precision, PRECISIONS)
    if check_count("decode", "paths", paths) > MOST_PATHS:
        raise ValueError(f"decode: paths must be at most {MOST_PATHS:,}, not {paths:,}")
    data = as_ragged(x)
    network = _network(model, "decode", data.features if len(data) else None)
    check_finite(data)
    unmasked, kept = model._unmasked(data)
    labels, log_probabilities = network.decode(unmasked, paths, precision)[1]
    if kept is not None:
        everywhere = np.full((paths, data.total_steps), -1, np.int32)
        everywhere[:, kept] = labels
        labels = everywhere
    return list(zip(labels, log_probabilities, strict=True))


def predict_paths(model: Sequential, data: Ragged, precision: str) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """(total_steps, labels) float32 probabilities, and the (total_steps,) likeliest labels of each sequence as a whole.

    Args:
        model: ends with a `CRF`, and masks no steps.
        data: finite values.
    """
    rows, paths = _decoded(model, data, 1, precision)
    return rows, paths.labels[0]


def likeliest_paths(model: Sequential, data: Ragged, paths: int, precision: str) -> Paths:
    """The likeliest labels of each sequence as a whole, and their probabilities; for the arguments see `predict_paths`.

    Args:
        paths: how many there are to be of each sequence, from 1 to 1,000.
    """
    if check_count("decode", "paths", paths) > MOST_PATHS:
        raise ValueError(f"decode: paths must be at most {MOST_PATHS:,}, not {paths:,}")
    return _decoded(model, data, paths, precision)[1]


def _decoded(model: Sequential, data: Ragged, count: int, precision: str) -> tuple[FloatArray, Paths]:
    """What the engine gives for some sequences at a time."""
    network = _network(model, "decode", data.features if len(data) else None)
    rows = np.empty((data.total_steps, network.outputs), np.float32)
    all_ = Paths(np.empty((count, data.total_steps), np.int32), np.empty((count, len(data))))
    for chunk in chunks(data.lengths, model.weights_per_step):
        steps = slice(data.offsets[chunk.start], data.offsets[chunk.stop])
        rows[steps], paths = network.decode(data[chunk], count, precision)
        all_.labels[:, steps], all_.log_probabilities[:, chunk] = paths
    return rows, all_


def count_right(network: Network, data: Ragged, targets: Targets, precision: str) -> float:
    """At how many steps the likeliest labels of a sequence as a whole have its label, or one that it may have."""
    if not len(data):
        return 0.0
    path = network.decode(data, 1, precision)[1].labels[0]
    if targets.labels is not None:
        right = path == targets.labels
    else:
        assert targets.values is not None
        right = targets.values[np.arange(len(path)), path] > 0  # NaN, where unlabelled, is not
    return float(right.sum())


def log_likelihoods(model: Sequential, x: Any, y: Any, precision: str) -> npt.NDArray[np.float64]:
    """See `Sequential.log_likelihoods`."""
    check_choice("log_likelihoods", "precision", precision, PRECISIONS)
    data = as_ragged(x)
    network = _network(model, "log_likelihoods", data.features if len(data) else None)
    check_finite(data)
    unmasked, kept = model._unmasked(data)
    targets = make_targets(y, data, loss="crf_likelihood", outputs=network.outputs, one_row_each=False, kept=kept)
    return network.log_likelihoods(unmasked, targets, precision)


def decodes(model: Sequential) -> bool:
    """Whether the model predicts the labels of a sequence together: whether it ends with a `CRF`."""
    return bool(model.layers) and isinstance(model.layers[-1], CRF)


def _network(model: Sequential, owner: str, features: int | None) -> Network:
    if not decodes(model):
        raise ValueError(f"{owner}: the model's last layer must be a CRF")
    return model._built_network(features)
