"""What the classes count for in training: as a person says, or all the same however rare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.errors import listed
from bilstm.ragged import FloatArray

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


def row_weights(
    weight: Any, classes: npt.ArrayLike, codes: npt.NDArray[np.int32], counted: npt.NDArray[np.int32]
) -> FloatArray | None:
    """The weight of each row's class.

    Args:
        weight: a `ClassWeight`: class -> weight, 1 where it is not named; "balanced": inverse to how often a class is
            `counted`; or None.
        classes: (n_classes,) their names.
        codes: (rows,) the index of each row's class, negative where unlabelled.
        counted: the same of the rows that are trained on.

    Returns:
        (rows,) float32, 0 where unlabelled; None for None.

    Raises:
        ValueError: the weight is none of these, names another class, or is negative or not finite.
    """
    if weight is None:
        return None
    names = np.asarray(classes).tolist()
    if isinstance(weight, Mapping):
        unknown = [label for label in weight if label not in names]
        if unknown:
            raise ValueError(f"class_weight has {unknown[0]!r}, which is none of the classes {listed(map(str, names))}")
        weights = np.array([weight.get(name, 1.0) for name in names], np.float32)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"class_weight must be finite numbers from 0, not {dict(weight)}")
    elif isinstance(weight, str) and weight == "balanced":
        counts = np.bincount(counted[counted >= 0], minlength=len(names))
        weights = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
    else:
        raise ValueError(f"class_weight must be None, 'balanced' or a dictionary of classes, not {weight!r}")
    return np.where(codes >= 0, weights[codes], np.float32(0))
