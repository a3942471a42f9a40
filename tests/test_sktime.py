"""SequenceClassifier, behind a thin adapter, passes sktime's own checks of a time series classifier.

aeon's are of the same kind, but need Numba, whose releases follow NumPy's by months. Slow: `make test-slow`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from bilstm import SequenceClassifier

pytestmark = pytest.mark.slow
base = pytest.importorskip("sktime.classification.base")
estimator_checks = pytest.importorskip("sktime.utils.estimator_checks")


class Adapter(base.BaseClassifier):
    """What sktime hands over is a list of data frames with a row for each time point.

    >>> from bilstm import SequenceClassifier  # sktime wants an example
    """

    _tags: ClassVar[dict[str, Any]] = {
        "X_inner_mtype": "df-list",
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
        "capability:predict_proba": True,
        "capability:class_weight": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "capability:categorical_in_X": False,
    }

    def __init__(self, class_weight: Any = None, random_state: Any = None) -> None:
        self.class_weight = class_weight
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> Adapter:
        parameters: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "batch_size": 8}
        self.classifier_ = SequenceClassifier(
            **parameters, class_weight=self.class_weight, random_state=self.random_state
        )
        self.classifier_.fit(arrays(X), y)
        return self

    def _predict(self, X: Any) -> Any:
        return self.classifier_.predict(arrays(X))

    def _predict_proba(self, X: Any) -> Any:
        return self.classifier_.predict_proba(arrays(X))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return [{"random_state": 0}, {"random_state": 1, "class_weight": "balanced"}]


def arrays(X: Any) -> list[Any]:
    return [frame.to_numpy(np.float64) for frame in X]


@pytest.mark.filterwarnings("ignore")
def test_sktimes_checks() -> None:
    found = estimator_checks.check_estimator(Adapter, verbose=False)
    assert {name: result for name, result in found.items() if result != "PASSED"} == {}
    for check in ("test_classifier_output", "test_fit_idempotent", "test_persistence_via_pickle", "test_class_weight"):
        for data in ("ClassifierFitPredictMultivariate", "ClassifierFitPredictUnequalLength"):
            assert any(name.startswith(check) and data in name for name in found)
    assert len(found) > 100
