"""Answers of a trained model for sequences that have not ended: raw steps in, labels or quantities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Observations
from bilstm.data.frames import is_frame
from bilstm.data.memory import MemoryTable
from bilstm.data.sources import open_for
from bilstm.data.table import Sequences
from bilstm.errors import UserError, shown
from bilstm.models.lookahead import LookAhead
from bilstm.models.stages import divided
from bilstm.ragged import FloatArray, Ragged, offsets_of
from bilstm.tasks import LabelTask, Outputs

if TYPE_CHECKING:
    from bilstm.model.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model predicts for steps that follow one another in a sequence.

    Attributes:
        first: which step of the sequence the first is, counted from 0.
        predicted: (steps,) labels or quantities, as `TrainedModel.predict` gives them; several a step in a last
            dimension.
        probabilities: (steps, labels) float32, as `TrainedModel.predict_proba` gives them; None of quantities.
        outputs: what the network gave.
    """

    first: int
    predicted: npt.NDArray[Any]
    probabilities: FloatArray | None
    outputs: Outputs = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.outputs)


class ModelStream:
    """Sequences that arrive part by part, each under a key: `TrainedModel.stream` makes it.

    When steps are final, and which bits their answers have, is as `LookAheadStream` describes. Each part of a sequence
    holds raw values, as training's data did, in one of these forms: a dictionary with a list for each feature, or, for
    a single step, with a value for each; a list of such dictionaries of values, one per step; a (steps, features)
    array; a list of strings, for models of words or characters; a data frame with a row for each step. Other columns
    than the features are ignored; steps are in order.

    Attributes:
        observations: what was noticed in the steps so far, such as missing values.
    """

    def __init__(self, model: TrainedModel, look_ahead: LookAhead, block: int) -> None:
        if model.task.per_sequence:
            raise UserError(
                f"a stream labels steps, but the model's task is {model.task.kind}: it needs whole sequences"
            )
        if isinstance(model.task, LabelTask) and model.task.learned_tags is not None:
            raise UserError(
                "a stream gives labels step by step, but the model has learned tags of another scheme "
                "(train_scheme), which become labels once a sequence is complete"
            )
        network, self._words = model.network, None
        if model.schema.characters:  # words are encoded as they come: each stands for itself
            self._words, network = divided(network, 1)
        self._precision = model.precision
        try:
            self.stream = network.stream(look_ahead=look_ahead, block=block, precision=model.precision)
        except ValueError as error:
            raise UserError(str(error)) from None
        self._schema, self._task = model.schema, model.task
        self.observations = Observations()

    def __repr__(self) -> str:
        return repr(self.stream).replace(type(self.stream).__name__, type(self).__name__)

    def __len__(self) -> int:
        return len(self.stream)

    def __contains__(self, key: object) -> bool:
        return key in self.stream

    @property
    def keys(self) -> list[Hashable]:
        """The keys of the sequences that are open."""
        return self.stream.keys

    # --- Steps in, answers out -----------------------------------------------------------------------------------

    def push(self, steps: Any, key: Hashable = None) -> Answers:
        """Take the next steps of a sequence; a key that is not open begins one.

        Args:
            steps: see the class; may be empty.
            key: which sequence this is.

        Returns:
            The answers for the steps that are now final, which follow those of before.

        Raises:
            UserError: the steps are not like those of training; the message says where. Nothing has changed then.
        """
        return self.push_many({key: steps})[key]

    def push_many(self, steps: Mapping[Hashable, Any]) -> dict[Hashable, Answers]:
        """Take the next steps of several sequences, by key: `push` of each, in one computation."""
        try:
            encoded = self._encoded(list(steps.values()))
        except UserError:
            for key, values in steps.items() if len(steps) > 1 else ():
                try:
                    self._encoded([values], observe=False)
                except UserError as error:  # the message of several counts them
                    raise UserError(f"sequence {shown(str(key))}: {error}") from None
            raise
        return self._push(dict(zip(steps, encoded, strict=True)))

    def push_encoded(self, steps: Ragged, key: Hashable = None) -> Answers:
        """`push` of steps that the schema has encoded, of one sequence."""
        return self._push({key: self._inputs(steps).values})[key]

    def outputs_of(self, values: Ragged) -> Outputs:
        """What the network gives for whole sequences that the schema has encoded, as if they came step by step."""
        numbered: dict[Hashable, Any] = dict(enumerate(self._inputs(values)))
        parts = [self.stream.push_many(numbered), self.stream.finish_many(numbered)]
        none = np.zeros((0, self._task.outputs), np.float32)
        return Outputs(np.concatenate([none, *(part[number] for number in numbered for part in parts)]))

    def _push(self, encoded: Mapping[Hashable, FloatArray]) -> dict[Hashable, Answers]:
        first = {key: self.stream.position(key) for key in encoded}
        return {key: self._answers(first[key], rows) for key, rows in self.stream.push_many(encoded).items()}

    def finish(self, key: Hashable = None) -> Answers:
        """End a sequence: the answers for its steps that were not final yet. Its key may begin another.

        Raises:
            KeyError: no such sequence is open.
        """
        return self.finish_many([key])[key]

    def finish_many(self, keys: Iterable[Hashable] | None = None) -> dict[Hashable, Answers]:
        """End several sequences, all that are open if None: `finish` of each, in one computation."""
        chosen = self.keys if keys is None else list(keys)
        first = {key: self.stream.position(key) for key in chosen}
        return {key: self._answers(first[key], rows) for key, rows in self.stream.finish_many(chosen).items()}

    def _answers(self, first: int, rows: FloatArray) -> Answers:
        outputs, quantities = Outputs(rows), self._task.what == "quantity"
        predicted = self._task.predicted(outputs)
        if quantities and self._task.outputs == 1:
            predicted = predicted[:, 0]
        return Answers(first, predicted, None if quantities else rows, outputs)

    # --- States as data ------------------------------------------------------------------------------------------

    def get_state(self, key: Hashable = None) -> dict[str, npt.NDArray[Any]]:
        """What a stream of the same model needs to continue a sequence: see `LookAheadStream.get_state`."""
        return self.stream.get_state(key)

    def set_state(self, state: Mapping[str, npt.ArrayLike], key: Hashable = None) -> None:
        """Continue a sequence where `get_state` left it: see `LookAheadStream.set_state`."""
        self.stream.set_state(state, key)

    # --- Encoding ------------------------------------------------------------------------------------------------

    def _encoded(self, parts: list[Any], *, observe: bool = True) -> list[FloatArray]:
        """(steps, inputs) of each part."""
        columns = [self._columns(part) for part in parts]
        given = [index for index, part in enumerate(columns) if _steps_of(part)]
        encoded = [np.zeros((0, self.stream.features), np.float32)] * len(parts)
        if not given:
            return encoded
        values, observations = self._encode([columns[index] for index in given])
        for index, own in zip(given, values, strict=True):
            encoded[index] = own
        if observe:
            self.observations.add(observations)
        return encoded

    def _encode(self, parts: list[Any]) -> tuple[Ragged, Observations]:
        table = open_for(self._schema, parts, label="the stream")
        assert isinstance(table, MemoryTable)
        offsets = offsets_of([_steps_of(part) for part in parts])
        data = self._schema.encode(table, Sequences(offsets, np.arange(table.rows)))
        return self._inputs(data.values), data.observations

    def _inputs(self, values: Ragged) -> Ragged:
        """What the stream takes of steps that the schema has encoded."""
        if self._words is None:
            return values
        return values.with_values(self._words.predict_rows(values, precision=self._precision))

    def _columns(self, part: Any) -> Any:
        """A part as one of the sequences in a list that `open_for` takes."""
        if isinstance(part, str):
            raise UserError(
                f"{shown(part)} is a text, which does not say where its steps begin: give a list of its words or "
                f"characters"
            )
        if is_frame(part):
            import narwhals.stable.v2 as nw

            frame = nw.from_native(part, pass_through=True)
            frame = frame if isinstance(frame, nw.DataFrame) else nw.from_arrow(part, backend="pyarrow")
            part = frame.to_dict(as_series=False)
        if isinstance(part, (list, tuple)) and part and all(isinstance(step, Mapping) for step in part):
            names = dict.fromkeys(name for step in part for name in step)
            part = {name: [step.get(name) for step in part] for name in names}
        if isinstance(part, Mapping):
            return self._features(part)
        return part

    def _features(self, part: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The features in a dictionary of columns, or of a single step's values."""
        for name in self._schema.features:
            if name not in part:
                raise UserError(
                    f"the steps have no {shown(name)}, a feature of the model; where it is missing, give None"
                )
        own = {name: part[name] for name in self._schema.features}
        listed = [isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) > 0 for value in own.values()]
        if not any(listed):
            return {name: [value] for name, value in own.items()}
        if not all(listed):
            raise UserError("give each feature a list with a value for each step, or, for one step, a value each")
        return {name: list(value) for name, value in own.items()}


def _steps_of(part: Any) -> int:
    return max(map(len, part.values())) if isinstance(part, dict) else len(part)
