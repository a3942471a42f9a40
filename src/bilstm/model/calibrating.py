"""Scaling a trained model's probabilities on the validation set."""

from __future__ import annotations

import numpy as np

from bilstm.data.dataset import Dataset
from bilstm.metrics import calibration_error, find_temperature, log_loss, with_temperature
from bilstm.metrics.calibration import losses
from bilstm.model.trained import TrainedModel
from bilstm.models.decoding import decodes
from bilstm.tasks import LabelTask

# A validation set from which a temperature can be found.
_FEWEST_ROWS, _FEWEST_SEQUENCES = 100, 5
_MOST = 1 << 22  # outputs that are looked at


def calibrate(model: TrainedModel, validation: Dataset | None, requested: bool | None) -> dict[str, float] | None:
    """Scale a model's probabilities by the temperature that fits the validation set best.

    After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017). The weights of the last
    layer are divided by the temperature, so that predictions cost nothing more; which label is the likeliest does not
    change.

    Args:
        requested: whether to; None: if the validation set is large enough, and its log loss falls by more than chance
            explains: by one standard error over its groups or sequences. A `CRF` has no temperature.

    Returns:
        The "temperature" and what it did on the validation set: "log_loss_before", "log_loss",
        "calibration_error_before" and "calibration_error"; None where nothing was scaled.
    """
    task = model.task
    if requested is False or validation is None or task.what == "quantity" or decodes(model.network):
        return None
    sample = validation.part(slice(0, max(1, int(np.searchsorted(validation.row_offsets, _MOST // task.outputs)))))
    labelled = task.labelled(sample.known)
    if not labelled.any() or (not requested and (labelled.sum() < _FEWEST_ROWS or len(sample) < _FEWEST_SEQUENCES)):
        return None
    truth, outputs = sample.known[labelled], model.outputs(sample.values).values[labelled]
    several = not isinstance(task, LabelTask)
    temperature = find_temperature(truth, outputs, several=several)
    scaled = with_temperature(outputs, temperature, several=several)
    if not requested:
        units = np.arange(len(sample)) if sample.groups is None else np.unique(sample.groups, return_inverse=True)[1]
        of_rows = np.repeat(units, np.diff(sample.row_offsets))[labelled]
        gains = losses(truth, outputs) - losses(truth, scaled)
        sums = np.bincount(of_rows, gains.sum(axis=1) if several else gains)
        if sums.sum() <= np.sqrt(len(sums)) * sums.std():
            return None
    figures: dict[str, float] = {"temperature": temperature}
    for name, rows in (("_before", outputs), ("", scaled)):
        # Rounded: the last bits of logarithms differ between processors, and must not make another file.
        figures[f"log_loss{name}"] = round(log_loss(truth, rows, several=several), 5)
        figures[f"calibration_error{name}"] = round(calibration_error(truth, rows, several=several), 5)
    weights = model.network.get_weights()
    model.network.set_weights([*weights[:-2], *(weight / np.float32(temperature) for weight in weights[-2:])])
    return figures
