"""bilstm with default flags."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.taggers.base import BATCH, Options, Pass, Tagger
from bilstm import __version__, utils
from bilstm.model.network import build_network
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.tagging import choose_output
from bilstm.model.trained import TrainedModel
from bilstm.models.fitting import FitData
from bilstm.tasks import LabelTask
from bilstm.training.loop import train_model
from bilstm.training.options import TrainingOptions


class Ours(Tagger):
    """From words to tags, or, as a network of PyTorch's, from the numbers that stand for words to those of tags.

    Args:
        numbers: whether predictions are from numbers. Training always is.
    """

    def __init__(self, numbers: bool) -> None:
        self.numbers = numbers
        self.options = TrainingOptions(seed=1, epochs=1, batch_size=BATCH)

    def versions(self) -> dict[str, str]:
        return {"bilstm": f"{__version__} ({utils.target()})"}

    def settings(self, task: str) -> dict[str, Options]:
        return {f"{utils.threads()} threads": {}}

    def load(self, data: Path, encoded: Path) -> None:
        super().load(data, encoded)
        # The development set, so that the whole training set is trained on; it is not looked at.
        prepared = prepare_data(data / "train.conll", column_options(), self.options, valid=data / "dev.conll")
        self.output = choose_output(prepared, self.options)
        task = self.output.task
        assert isinstance(task, LabelTask)
        training = prepared.training
        self.data = FitData.all_of(training.values, task.targets(training.known, None, training.known))

    def training(self, count: int, options: Options) -> Pass:
        output, prepared = self.output, self.output.learned
        network = build_network(prepared.schema, prepared.task, output.options, output.forbidden, prepared.vectors)
        data = FitData(self.data.data, self.data.targets, self.data.chosen[:count])
        chosen = FitData.all_of(*data.take(slice(None), one_row_each=False))

        def run() -> None:
            record = train_model(network, chosen, None, output.options)
            self.model = TrainedModel(prepared.schema, output.task, network, record)

        return run

    def prediction(self, count: int, options: Options) -> Pass:
        words = [words for words, _ in self.test[:count]]
        if not self.numbers:
            return lambda: self.model.predict(words)
        values = self.model.read(words).values
        return lambda: self.model.outputs(values)
