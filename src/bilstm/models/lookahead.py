"""Outputs of bidirectional networks for sequences that have not ended: in blocks, with bounded look-ahead.

A sequence is divided into blocks of `block` steps. A block's outputs are computed from its steps and the `look_ahead`
steps after it, through all layers: directions that read forward continue from their states after the block before;
directions that read backward start from zeros at the last step of the look-ahead. This is the latency-controlled
bidirectional LSTM of Zhang et al. (2016, "Highway long short-term memory RNNs for distant speech recognition") and Xue
& Yan (2017, "Improving latency-controlled BLSTM acoustic models for online speech recognition"), applied to networks
that were trained on whole sequences. At a sequence's end the look-ahead is what is left of the sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count
from bilstm.engine.plans import PRECISIONS
from bilstm.models.fitting import check_finite
from bilstm.models.stages import stages_of
from bilstm.ragged import FloatArray, Ragged, offsets_of

if TYPE_CHECKING:
    from bilstm.models.sequential import Sequential

LookAhead = int | Literal["all"]
_STATE = ("position", "inputs", "states", "look_ahead", "block", "network")


@dataclasses.dataclass
class _Open:
    """A sequence that has not ended.

    Attributes:
        final: how many of its steps have their outputs.
        inputs: (steps, features) those that are still needed: before step `final` as many as convolutions read.
        states: (state_width,) after step `final`.
    """

    final: int
    inputs: FloatArray
    states: FloatArray


class LookAheadStream:
    """Sequences that arrive piece by piece, each under a key: `Sequential.stream` with `look_ahead` makes it.

    A block of `block` steps is final, and its outputs are returned, when `look_ahead` further steps have arrived, or
    when its sequence is finished. So a step's output comes from `look_ahead` to `look_ahead + block - 1` steps after
    the step. Each block costs the computation of `look_ahead + block` steps.

    However sequences are cut into pushes, and whichever others are open, the outputs have the same bits. They are those
    of `Sequential.predict` on the whole sequence, bit for bit: where the look-ahead of each block reaches the
    sequence's end, and always if no layer reads backward; and with a single recurrent layer for each block whose
    look-ahead reaches the end. Memory and time for a step are constant, unless look_ahead is "all".

    The weights are those of when the stream was made. It is for one thread at a time.

    Attributes:
        look_ahead: the number of steps, or "all".
        block: the number of steps.
    """

    def __init__(self, model: Sequential, look_ahead: LookAhead, block: int, precision: str) -> None:
        self._stages = stages_of(model)
        self.look_ahead: LookAhead = check_look_ahead("stream", look_ahead)
        self.block = check_count("stream", "block", block)
        self._precision = check_choice("stream", "precision", precision, PRECISIONS)
        self._check_reach()
        self._open: dict[Hashable, _Open] = {}

    def _check_reach(self) -> None:
        after = self._stages.after
        if self.look_ahead == "all":
            if self.block > 1:
                raise ValueError("stream: block has no effect with look_ahead='all': leave it out")
        elif self.look_ahead < after:
            raise ValueError(
                f"stream: the convolutions read {after} steps ahead, so look_ahead must be at least {after}, not "
                f"{self.look_ahead}"
            )
        elif self.look_ahead > after and not self._stages.reads_backward:
            raise ValueError(
                f"stream: no layer reads backward, so look_ahead={self.look_ahead} only delays outputs: give {after}"
            )

    def __repr__(self) -> str:
        return f"LookAheadStream(look_ahead={self.look_ahead!r}, block={self.block}; {len(self)} open)"

    @property
    def features(self) -> int:
        """Dimensions of a step."""
        return self._stages.features

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: object) -> bool:
        return key in self._open

    @property
    def keys(self) -> list[Hashable]:
        """The keys of the sequences that are open."""
        return list(self._open)

    def position(self, key: Hashable = None) -> int:
        """How many steps of a sequence are final."""
        return self._open[key].final if key in self._open else 0

    # --- Steps in, outputs out -----------------------------------------------------------------------------------

    def push(self, steps: npt.ArrayLike, key: Hashable = None) -> FloatArray:
        """Take the next steps of a sequence; a key that is not open begins one.

        Args:
            steps: (steps, features), or (steps,) of one feature; may be empty.
            key: which sequence this is.

        Returns:
            (final steps, outputs) float32, for the steps that are now final, which follow those returned before.

        Raises:
            ValueError: the steps have another number of features, or a value that is not finite. Nothing has changed
                then.
        """
        return self.push_many({key: steps})[key]

    def push_many(self, steps: Mapping[Hashable, npt.ArrayLike]) -> dict[Hashable, FloatArray]:
        """Take the next steps of several sequences, by key: `push` of each, in one computation."""
        arrived = {}
        for key, values in steps.items():
            try:
                arrived[key] = self._checked(values)
            except ValueError as error:
                raise ValueError(str(error) if key is None else f"sequence {key!r}: {error}") from None
        return self._advance(arrived, ended=False)

    def finish(self, key: Hashable = None) -> FloatArray:
        """End a sequence: (steps, outputs) float32 for the steps that were not final yet. Its key may begin another.

        Raises:
            KeyError: no such sequence is open.
        """
        return self.finish_many([key])[key]

    def finish_many(self, keys: Iterable[Hashable] | None = None) -> dict[Hashable, FloatArray]:
        """End several sequences, all that are open if None: `finish` of each, in one computation."""
        chosen = self.keys if keys is None else list(dict.fromkeys(keys))
        nothing = np.zeros((0, self._stages.features), np.float32)
        return self._advance({self._known(key): nothing for key in chosen}, ended=True)

    def _known(self, key: Hashable) -> Hashable:
        if key not in self._open:
            raise KeyError(f"no sequence {key!r} is open" if key is not None else "no sequence is open")
        return key

    def _checked(self, values: npt.ArrayLike) -> FloatArray:
        array = np.asarray(values)
        if not array.size:
            return np.zeros((0, self._stages.features), np.float32)
        data = Ragged.from_sequences([array])
        if data.features != self._stages.features:
            raise ValueError(f"the network takes {self._stages.features} features, the steps have {data.features}")
        check_finite(data)
        return data.values

    # --- Blocks --------------------------------------------------------------------------------------------------

    def _advance(self, arrived: Mapping[Hashable, FloatArray], *, ended: bool) -> dict[Hashable, FloatArray]:
        """Outputs of all blocks that are final once these steps have arrived. Nothing changes before all are known."""
        width = len(self._stages.backward)
        nothing = _Open(0, np.zeros((0, self._stages.features), np.float32), np.zeros(width, np.float32))
        changed: dict[Hashable, _Open] = {}
        for key, steps in arrived.items():
            before = self._open.get(key, nothing)
            changed[key] = _Open(before.final, np.concatenate([before.inputs, steps]), before.states)
        rows: dict[Hashable, list[FloatArray]] = {key: [] for key in changed}
        due = list(changed)
        while due := [key for key in due if self._steps_due(changed[key], ended)[0]]:
            for key, outputs in zip(due, self._computed([changed[key] for key in due], ended), strict=True):
                rows[key].append(outputs)
        for key, sequence in changed.items():
            sequence.inputs = sequence.inputs.copy()  # what came before may be much
            if ended:
                del self._open[key]
            else:
                self._open[key] = sequence
        none = np.zeros((0, self._stages.outputs), np.float32)
        return {
            key: np.concatenate(parts) if len(parts) != 1 else parts[0]
            for key, parts in ((key, parts or [none]) for key, parts in rows.items())
        }

    def _lead(self, sequence: _Open) -> int:
        """How many of the steps kept have their outputs already."""
        return min(sequence.final, self._stages.before)

    def _steps_due(self, sequence: _Open, ended: bool) -> tuple[int, int]:
        """How many steps are final at the next computation, and how many after them it looks at."""
        waiting = len(sequence.inputs) - self._lead(sequence)
        if ended:
            return waiting, 0
        if self.look_ahead == "all" or waiting < self.look_ahead + self.block:
            return 0, 0
        blocks = 1 if self._stages.reads_backward else (waiting - self.look_ahead) // self.block
        return blocks * self.block, self.look_ahead

    def _computed(self, sequences: list[_Open], ended: bool) -> list[FloatArray]:
        """The outputs of the next steps of each, which it then has."""
        sizes = np.array([self._steps_due(sequence, ended) for sequence in sequences], np.int64)
        final, ahead = sizes.T
        lead = np.array([self._lead(sequence) for sequence in sequences], np.int64)
        lengths = lead + final + ahead
        windows = Ragged(
            np.concatenate([own.inputs[:length] for own, length in zip(sequences, lengths, strict=True)]),
            offsets_of(lengths),
        )
        cut = np.zeros_like(lead) if ended else np.full_like(lead, self._stages.after)
        states = np.stack([sequence.states for sequence in sequences])
        outputs, after = self._stages.run(windows, states, lead, cut, final, self._precision)
        for index, (sequence, count) in enumerate(zip(sequences, final.tolist(), strict=True)):
            sequence.final += count
            sequence.states = after[index].copy()
            sequence.inputs = sequence.inputs[lead[index] + count - self._lead(sequence) :]
        return [own[:count].copy() for own, count in zip(outputs, final.tolist(), strict=True)]

    # --- States as data ------------------------------------------------------------------------------------------

    def get_state(self, key: Hashable = None) -> dict[str, npt.NDArray[Any]]:
        """What a stream of the same model, look-ahead and block needs to continue a sequence: arrays, for any format.

        Returns:
            "position", how many steps are final; "inputs" (steps, features) and "states" (state_width,) float32;
            "look_ahead", -1 for "all", and "block"; "network", 8 bytes that tell networks apart.

        Raises:
            KeyError: no such sequence is open.
        """
        sequence = self._open[self._known(key)]
        position = np.array(sequence.final, np.int64)
        return {
            "position": position,
            "inputs": sequence.inputs.copy(),
            "states": sequence.states.copy(),
            **self._marks(),
        }

    def set_state(self, state: Mapping[str, npt.ArrayLike], key: Hashable = None) -> None:
        """Continue a sequence where `get_state` left it; what the key held before is forgotten.

        Raises:
            ValueError: the state is that of another network, look-ahead or block, or is damaged.
        """
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise ValueError(f"set_state: the state has no {missing[0]!r}")
        for name, own in self._marks().items():
            if not np.array_equal(np.asarray(state[name]), own):
                its = "another network" if name == "network" else f"a stream with {name} {np.asarray(state[name])}"
                raise ValueError(f"set_state: the state is that of {its}{'' if name == 'network' else f', not {own}'}")
        position, inputs, states = (np.array(state[name]) for name in _STATE[:3])
        if position.shape != () or position.dtype.kind not in "iu" or position < 0 or position % self.block:
            raise ValueError(f"set_state: position must be a multiple of {self.block}, not {position}")
        sequence = _Open(int(position), inputs, states)
        kept, most = len(inputs) if inputs.ndim else 0, np.inf
        if self.look_ahead != "all":
            most = self._lead(sequence) + self.look_ahead + self.block - 1
        fits = inputs.shape == (kept, self._stages.features) and self._lead(sequence) <= kept <= most
        if not fits or states.shape != self._stages.backward.shape:
            raise ValueError("set_state: the inputs or states have shapes that no stream of this network has")
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in (inputs, states)):
            raise ValueError("set_state: the inputs or states hold what is no finite float32 number")
        self._open[key] = sequence

    def _marks(self) -> dict[str, npt.NDArray[Any]]:
        """What must be the same for a state to be continued."""
        look_ahead = -1 if self.look_ahead == "all" else self.look_ahead
        return {
            "look_ahead": np.array(look_ahead, np.int64),
            "block": np.array(self.block, np.int64),
            "network": self._stages.digest,
        }


def check_look_ahead(owner: str, look_ahead: Any) -> LookAhead:
    """A number of steps, or "all".

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 0, or another word.
    """
    if look_ahead == "all":
        return "all"
    if isinstance(look_ahead, str):
        raise ValueError(f"{owner}: look_ahead must be a number of steps or 'all', not {look_ahead!r}")
    return check_count(owner, "look_ahead", look_ahead, 0)
