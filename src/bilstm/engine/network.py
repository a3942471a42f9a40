"""A network as the engine runs it: a handle, and calls that check shapes before they cross into C++."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import addressof, byref, c_char, c_float, c_int32, c_int64, c_void_p
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bilstm.engine.library import (
    INVALID,
    DataStruct,
    LayerStruct,
    check,
    library,
)
from bilstm.engine.losses import LOSSES, NO_LOSS
from bilstm.engine.plans import PRECISIONS, OptimizerPlan, Targets, optimizer_struct
from bilstm.ragged import FloatArray, IndexArray, Ragged, as_array, offsets_of

_MOST_SHARES = 8  # of a batch
DIVERGED = 1e30  # a loss from which on gradients might not be finite, as in native/training.cpp
ARRAYS = ("weights", "gradients", "first_moments", "second_moments", "averages")


class Prepared:
    """A prediction from one array into another, made ready once: `Network.prepared` makes it.

    Attributes:
        predict: predicts, from what `values` holds then and with the current weights. Takes nothing; returns
            an error code for `check`, since a function around it would take a twentieth of a short prediction's time.
    """

    def __init__(self, network: Network, values: FloatArray, output: FloatArray, precision: str) -> None:
        engine, handle = library(), c_void_p()
        count, steps, _ = values.shape
        number = PRECISIONS.index(precision)
        arguments = network._handle, _address(values), count, steps, number, _address(output), byref(handle)
        check(engine.bilstm_prepare(*arguments))
        self.predict = partial(engine.bilstm_predict_prepared, handle)
        # It may outlive this object, and must keep what it reads and writes.
        vars(self.predict)["owners"] = network, values, output
        weakref.finalize(self.predict, engine.bilstm_forget, handle)


class Pass:
    """A forward pass that is kept for its backward pass: `Network.forward` makes it."""

    def __init__(self, network: Network, data: Ragged, states: FloatArray | None, handle: c_void_p, rows: int) -> None:
        self._network, self._handle = network, handle
        self._data, self._states, self._rows = data, states, rows  # which the engine reads again
        weakref.finalize(self, _forget, network, library().bilstm_forget_pass, handle, data, states)

    def backward(
        self,
        output_gradient: FloatArray,
        states_gradient: FloatArray | None = None,
        *,
        inputs: bool = False,
        states: bool = False,
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Compute the gradients of the weights, for `Network.read("gradients")`, as often as wanted.

        Args:
            output_gradient: (rows, outputs) float32, of the loss by the outputs.
            states_gradient: (n_sequences, state_width) float32, of the loss by the states after the last steps; zeros
                if left out.
            inputs: whether to return the gradient of the inputs.
            states: whether to return the gradient of the states before the first steps.

        Returns:
            The gradients of the inputs, (total_steps, features) float32, and of the states before the first steps,
            (n_sequences, state_width) float32; None where they are not wanted.

        Raises:
            ValueError: a gradient has another shape, or the weights have changed since the forward pass.
        """
        network, count = self._network, len(self._data)
        output_gradient = _checked("gradients of outputs", output_gradient, (self._rows, network.outputs))
        if states_gradient is not None:
            states_gradient = _checked("gradients of states", states_gradient, (count, network.state_width))
        of_inputs = np.empty((self._data.total_steps, network.features), np.float32) if inputs else None
        of_states = np.empty((count, network.state_width), np.float32) if states else None
        check(
            library().bilstm_backward(
                self._handle,
                _address(output_gradient),
                _address(states_gradient),
                _address(of_inputs),
                _address(of_states),
            )
        )
        return of_inputs, of_states


def _forget(network: Network, forget: Any, handle: c_void_p, *_owners: Any) -> None:
    """End a pass, before the network and what it reads may go."""
    if network._finalizer.alive:
        forget(handle)


class Paths(NamedTuple):
    """The likeliest labels of sequences, from a network that ends with a CRF: `Network.decode` makes them.

    Attributes:
        labels: (paths, total_steps) int32, the likeliest first; -1 where a sequence has fewer.
        log_probabilities: (paths, n_sequences) float64, of the labels of whole sequences; minus infinity where a
            sequence has fewer.
    """

    labels: npt.NDArray[np.int32]
    log_probabilities: npt.NDArray[np.float64]


class Network:
    """A network of the engine. Predictions may run from several threads at once.

    Args:
        layers: what it is made of, first to last.
        features: dimensions of an input step.

    Raises:
        ValueError: the layers do not fit together.
        MemoryError: they are too large.
    """

    def __init__(self, layers: Sequence[LayerStruct], features: int) -> None:
        structs = (LayerStruct * len(layers))(*layers)
        handle = c_void_p()
        check(library().bilstm_create(structs, len(layers), features, byref(handle)))
        self._handle = handle
        self.changes = 0  # how many calls have changed weights, counted when they end
        self._finalizer = weakref.finalize(self, library().bilstm_destroy, handle)
        parameters, outputs, one_row_each, state_width = c_int64(), c_int64(), c_int32(), c_int64()
        check(
            library().bilstm_describe(
                handle, byref(parameters), byref(outputs), byref(one_row_each), byref(state_width)
            )
        )
        self._recompute = False
        self.features = features
        self.parameter_count = parameters.value
        self.outputs = outputs.value
        self.one_row_each = bool(one_row_each.value)
        self.state_width = state_width.value

    def read(self, which: str = "weights", values: FloatArray | None = None) -> FloatArray:
        """(parameter_count,) float32: all "weights", "gradients", "first_moments", "second_moments" or "averages".

        Args:
            values: write them into this array, and return it.

        Raises:
            ValueError: `values` is not a contiguous float32 array of that length.
        """
        if values is None:
            values = np.empty(self.parameter_count, np.float32)
        elif values.shape != (self.parameter_count,) or values.dtype != np.float32 or not values.flags.carray:
            raise ValueError(f"the array to fill must be contiguous float32 of shape ({self.parameter_count},)")
        check(library().bilstm_read(self._handle, ARRAYS.index(which), _address(values), len(values)))
        return values

    def write(self, values: FloatArray, which: str = "weights") -> None:
        values = as_array(values, np.float32)
        try:
            check(library().bilstm_write(self._handle, ARRAYS.index(which), _address(values), len(values)))
        finally:
            self.changes += 1

    @property
    def iteration(self) -> int:
        """Training steps taken so far."""
        value = c_int64()
        check(library().bilstm_iteration(self._handle, byref(value), 0))
        return value.value

    @iteration.setter
    def iteration(self, value: int) -> None:
        check(library().bilstm_iteration(self._handle, byref(c_int64(value)), 1))

    @property
    def recompute(self) -> bool:
        """Whether training keeps less of a batch in memory and computes it again, with the same results."""
        return self._recompute

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        check(library().bilstm_set_recompute(self._handle, recompute))
        self._recompute = recompute

    def train(
        self,
        data: Ragged,
        targets: Targets,
        chosen: IndexArray,
        starts: IndexArray,
        loss: str,
        optimizer: OptimizerPlan,
        seed: int,
    ) -> npt.NDArray[np.float64]:
        """One training step for each batch; batch i is the sequences chosen[starts[i]:starts[i + 1]].

        Args:
            loss: a name in `losses.LOSSES`; the targets are of its kind.

        Returns:
            (batches, 5) float64: sums over labelled rows of the weighted loss, their number, correct ones, squared
            and absolute errors. Training stops at a loss that is not finite, before it changes any weight.
        """
        chosen, starts = as_array(chosen, np.int64), as_array(starts, np.int64)
        if chosen.ndim != 1 or starts.ndim != 1 or not len(starts):
            raise ValueError(
                "chosen and starts must have one dimension, and starts one element more than there are batches"
            )
        scores = np.zeros((len(starts) - 1, 5))
        struct = self._data_struct(data, targets)
        try:
            check(
                library().bilstm_train(
                    self._handle,
                    byref(struct),
                    _contents(chosen),
                    len(chosen),
                    _contents(starts),
                    len(starts) - 1,
                    LOSSES[loss].number,
                    byref(optimizer_struct(optimizer)),
                    seed,
                    _address(scores),
                )
            )
        finally:
            self.changes += 1
        return scores

    def train_equal(
        self, values: FloatArray, targets: FloatArray, loss: str, optimizer: OptimizerPlan, seed: int
    ) -> npt.NDArray[np.float64] | None:
        """One training step on all of a C-contiguous (n, steps, features) float32 array, as `train` takes it.

        The same as `train`, with less to do before the engine starts.

        Args:
            targets: C-contiguous float32, (n, steps, outputs) or (n, outputs), from 0 to 1; NaN or -1: unlabelled.

        Returns:
            (5,) float64, as `train` does; None, without any step, where the engine refuses the arrays.
        """
        count, steps, _ = values.shape
        score = np.empty(5)
        code = library().bilstm_train_equal(
            self._handle,
            _contents(values),
            _contents(targets),
            count,
            steps,
            LOSSES[loss].number,
            byref(optimizer_struct(optimizer)),
            seed,
            _address(score),
        )
        self.changes += 1
        if code == INVALID:
            return None
        check(code)
        return score

    def gradient(
        self,
        data: Ragged,
        targets: Targets,
        loss: str,
        *,
        training: bool = False,
        seed: int = 0,
        states: FloatArray | None = None,
        states_out: FloatArray | None = None,
    ) -> npt.NDArray[np.float64]:
        """Compute the gradients of one batch, for read("gradients"). Returns its (5,) score, as `train` does.

        Args:
            training: whether dropout drops.
            states: (n_sequences, state_width) float32 recurrent states before the first steps; zeros if left out. The
                gradients go no further back than the first steps: backpropagation is truncated there.
            states_out: (n_sequences, state_width) float32, C-contiguous, for the states after the last steps; may be
                `states` itself.
        """
        score = np.zeros(5)
        states = self._checked_states(states, len(data))
        if states_out is not None and (states_out.dtype != np.float32 or not states_out.flags.c_contiguous):
            raise ValueError("states_out must be a C-contiguous float32 array")
        self._checked_states(states_out, len(data))
        struct = self._data_struct(data, targets)
        chosen = np.arange(len(data), dtype=np.int64)
        check(
            library().bilstm_gradient(
                self._handle,
                byref(struct),
                _address(chosen),
                len(chosen),
                LOSSES[loss].number,
                training,
                seed,
                _address(states),
                _address(states_out),
                _address(score),
            )
        )
        return score

    def forward(
        self,
        data: Ragged,
        states: FloatArray | None = None,
        *,
        training: bool = False,
        seed: int = 0,
        return_states: bool = False,
    ) -> tuple[FloatArray, FloatArray | None, Pass]:
        """A prediction that is kept for its backward pass, for callers whose loss is their own.

        Args:
            data: sequences of finite values.
            states: (n_sequences, state_width) float32 recurrent states before the first steps; zeros if left out.
            training: whether dropout drops.
            return_states: whether to return the states after the last steps.

        Returns:
            (rows, outputs) float32, in the order of the data; the states after the last steps, or None; and the pass.

        Raises:
            ValueError: a value is not finite, or states have another shape or no meaning for these layers.
        """
        output = np.empty((self._rows(data), self.outputs), np.float32)
        states_out = np.empty((len(data), self.state_width), np.float32) if return_states else None
        states, handle = self._checked_states(states, len(data)), c_void_p()
        struct = self._data_struct(data)
        check(
            library().bilstm_forward(
                self._handle,
                byref(struct),
                training,
                seed,
                _address(states),
                _address(states_out),
                _address(output),
                byref(handle),
            )
        )
        return output, states_out, Pass(self, data, states, handle, len(output))

    def divide(self, lengths: npt.NDArray[np.int64]) -> list[IndexArray]:
        """How a batch of sequences with these lengths is divided into shares.

        Returns:
            For each share the positions of its sequences in the batch: of at least 16 if the batch has 16, and of
            all with a batch normalization, which needs whole batches.
        """
        lengths = as_array(lengths, np.int64)
        order, bounds, shares = np.empty(len(lengths), np.int64), np.empty(_MOST_SHARES + 1, np.int64), c_int64()
        arguments = _address(lengths), len(lengths), _address(order), _address(bounds), byref(shares)
        check(library().bilstm_divide(self._handle, *arguments))
        return np.split(order, bounds[1 : shares.value])

    def gradient_of_shares(
        self,
        data: Ragged,
        targets: Targets,
        shares: Sequence[IndexArray],
        positions: Sequence[IndexArray],
        labelled: int,
        loss: str,
        *,
        training: bool = False,
        seed: int = 0,
    ) -> tuple[npt.NDArray[np.float64], float]:
        """A worker's part of a training step: compute the gradients of some shares of a batch.

        Workers with the same weights divide the shares (see `divide`) among them in any way. With `magnitude` the
        largest of all workers', each calls `sum_of_shares`; the sums of all, added in any order, are written as
        "gradients" by each, which then calls `update`. All have the weights that `train` gives.

        Args:
            data: sequences, those of the shares among them.
            shares: for each share the indexes of its sequences in `data`, in the order in which `divide` gives them.
            positions: for each share those sequences' positions in the batch, from `divide`.
            labelled: rows of the whole batch that are labelled.
            loss: a name in `losses.LOSSES`; the targets are of its kind.
            training: whether dropout drops.

        Returns:
            (shares, 5) float64, the scores of each share as `train` returns them: a batch's is the sum of its shares',
            from the first to the last. And the largest magnitude of these gradients.

        Raises:
            ValueError: the shares are not sequences of the data, have more labelled rows than the batch, or are not a
                whole batch where a batch normalization needs one.
        """
        bounds = offsets_of([len(share) for share in shares])
        chosen = np.concatenate([np.zeros(0, np.int64), *shares])
        joined = np.concatenate([np.zeros(0, np.int64), *positions])
        if len(joined) != len(chosen):
            raise ValueError(f"{len(chosen)} sequences have {len(joined)} positions")
        scores, magnitude = np.zeros((len(shares), 5)), c_float()
        struct = self._data_struct(data, targets)
        check(
            library().bilstm_gradient_of_shares(
                self._handle,
                byref(struct),
                _address(chosen),
                _address(joined),
                len(chosen),
                _address(bounds),
                len(shares),
                labelled,
                LOSSES[loss].number,
                training,
                seed,
                _address(scores),
                byref(magnitude),
            )
        )
        return scores, magnitude.value

    def sum_of_shares(self, all_shares: int, magnitude: float) -> npt.NDArray[np.float64]:
        """(parameter_count,) float64: the sum of the gradients that `gradient_of_shares` has computed.

        Args:
            all_shares: how many shares the whole batch has.
            magnitude: the largest of all workers'.
        """
        sums = np.empty(self.parameter_count)
        check(library().bilstm_sum_shares(self._handle, all_shares, magnitude, _address(sums), len(sums)))
        return sums

    def update(self, optimizer: OptimizerPlan) -> None:
        """Take a step along the gradients last computed or written."""
        try:
            check(library().bilstm_update(self._handle, byref(optimizer_struct(optimizer))))
        finally:
            self.changes += 1

    def average(self, fraction: float) -> None:
        """Move the "averages", at first the weights themselves, this fraction (0 to 1) of the way to the weights."""
        check(library().bilstm_average(self._handle, fraction))

    def predict(
        self,
        data: Ragged,
        states: FloatArray | None = None,
        *,
        return_states: bool = False,
        leave_at: IndexArray | None = None,
        precision: str = "float32",
    ) -> tuple[FloatArray, FloatArray | None]:
        """(rows, outputs) float32, in the order of the data; and the states after the last steps.

        Args:
            states: (n_sequences, state_width) float32 recurrent states before the first steps; zeros if left out.
            leave_at: (n_sequences,) after how many steps of each sequence the states of directions that read it
                forwards are returned, from 1 to all steps; after the last if left out. So a piece can look ahead at
                steps that the next piece reads again.
            precision: of the weights: one of PRECISIONS.

        Raises:
            ValueError: states or leave_at have another shape, or no meaning for these layers.
        """
        output = np.empty((self._rows(data), self.outputs), np.float32)
        states_out = np.empty((len(data), self.state_width), np.float32) if return_states else None
        states = self._checked_states(states, len(data))
        if leave_at is not None:
            leave_at = as_array(leave_at, np.int64)
            if leave_at.shape != (len(data),):
                raise ValueError(f"leave_at has shape ({len(data)},), not {leave_at.shape}")
        struct = self._data_struct(data)
        check(
            library().bilstm_predict(
                self._handle,
                byref(struct),
                NO_LOSS,
                PRECISIONS.index(precision),
                _address(states),
                _address(states_out),
                _address(leave_at),
                _address(output),
                None,
            )
        )
        return output, states_out

    def decode(self, data: Ragged, paths: int = 1, precision: str = "float32") -> tuple[FloatArray, Paths]:
        """The outputs of a network that ends with a CRF, and the likeliest labels of each sequence.

        Args:
            data: sequences.
            paths: how many there are to be of each sequence, from 1 to 1,000; of equally likely ones first that with
                the lowest label at the last step where they differ.

        Returns:
            (total_steps, outputs) float32, and the paths.

        Raises:
            ValueError: the network does not end with a CRF, or a sequence has no labels without a forbidden transition.
        """
        output = np.empty((data.total_steps, self.outputs), np.float32)
        labels = np.empty((paths, data.total_steps), np.int32)
        log_probabilities = np.empty((paths, len(data)))
        struct = self._data_struct(data)
        check(
            library().bilstm_decode(
                self._handle,
                byref(struct),
                PRECISIONS.index(precision),
                paths,
                _address(output),
                _address(labels),
                _address(log_probabilities),
                None,
            )
        )
        return output, Paths(labels, log_probabilities)

    def log_likelihoods(
        self, data: Ragged, targets: Targets, precision: str = "float32", output: FloatArray | None = None
    ) -> npt.NDArray[np.float64]:
        """(n_sequences,) float64: the logarithm of the probability of each sequence's labels, by a CRF.

        Args:
            targets: labels, or (total_steps, outputs) values, above 0 for each label that a step may have. Steps that
                are unlabelled may have any.
            output: (total_steps, outputs) float32, C-contiguous, for what `predict` gives, at no cost.

        Raises:
            ValueError: the network does not end with a CRF, or a label is none of its.
        """
        result = np.empty(len(data))
        struct = self._data_struct(data, targets)
        number = PRECISIONS.index(precision)
        if output is not None:
            _check_shape("outputs", output, (data.total_steps, self.outputs))
        arguments = byref(struct), number, 0, _address(output), None, None, _address(result)
        check(library().bilstm_decode(self._handle, *arguments))
        return result

    def predict_equal(self, values: FloatArray, precision: str = "float32") -> FloatArray:
        """(n, steps, outputs) float32, or (n, outputs), for a C-contiguous (n, steps, features) float32 array.

        The same as `predict`, with less to do before the engine starts.
        """
        count, steps, features = values.shape
        if features != self.features:
            raise ValueError(f"the network takes {self.features} features, the sequences have {features}")
        output = np.empty((count, self.outputs) if self.one_row_each else (count, steps, self.outputs), np.float32)
        number = PRECISIONS.index(precision)
        check(library().bilstm_predict_equal(self._handle, _contents(values), count, steps, number, _address(output)))
        return output

    def prepared(self, values: FloatArray, output: FloatArray, precision: str = "float32") -> Prepared:
        """What `predict_equal` does for `values`, into `output`, to be done over and over."""
        return Prepared(self, values, output, precision)

    def evaluate(
        self, data: Ragged, targets: Targets, loss: str, precision: str = "float32"
    ) -> npt.NDArray[np.float64]:
        """(5,) float64: the sums that `train` returns, over all sequences, without dropout."""
        score = np.zeros(5)
        struct = self._data_struct(data, targets)
        check(
            library().bilstm_predict(
                self._handle,
                byref(struct),
                LOSSES[loss].number,
                PRECISIONS.index(precision),
                None,
                None,
                None,
                None,
                _address(score),
            )
        )
        return score

    def _checked_states(self, states: FloatArray | None, count: int) -> FloatArray | None:
        return None if states is None else _checked("states", states, (count, self.state_width))

    def _rows(self, data: Ragged) -> int:
        return len(data) if self.one_row_each else data.total_steps

    def _data_struct(self, data: Ragged, targets: Targets | None = None) -> DataStruct:
        if data.features != self.features and len(data):
            raise ValueError(f"the network takes {self.features} features, the sequences have {data.features}")
        rows = self._rows(data)
        if targets is not None:
            _check_shape("labels", targets.labels, (rows,))
            _check_shape("targets", targets.values, (rows, self.outputs))
            _check_shape("weights", targets.weights, (rows,))
        return DataStruct(
            _address(data.values),
            _address(data.offsets),
            data.total_steps,
            len(data),
            _address(targets.labels) if targets else None,
            _address(targets.values) if targets else None,
            _address(targets.weights) if targets else None,
            *_word_arrays(data.words),
        )


def _word_arrays(words: Ragged | None) -> tuple[Any, ...]:
    if words is None:
        return ()
    return _address(words.values), _address(words.offsets), len(words), words.features


def _check_shape(name: str, array: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> None:
    if array is not None and array.shape != shape:
        raise ValueError(f"{name} have shape {shape}, not {array.shape}")


def _checked(name: str, array: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """As a C-contiguous float32 array, which has this shape."""
    floats = as_array(array, np.float32)
    if floats.shape != shape:
        raise ValueError(f"{name} have shape {shape}, not {floats.shape}")
    return floats


def _address(array: Any) -> int | None:
    """Of a NumPy array's first number; None for None."""
    if array is None:
        return None
    if not array.size:
        return 64  # nothing will be read there
    # Several times as fast as array.ctypes.data, which counts where a training step takes microseconds.
    if array.flags.writeable:
        return addressof(c_char.from_buffer(array))
    base = array.base  # of a view that only hides the right to write
    if isinstance(base, np.ndarray) and base.flags.writeable and base.nbytes == array.nbytes:
        return addressof(c_char.from_buffer(base.data))
    return int(array.ctypes.data)


def _contents(array: npt.NDArray[Any]) -> bytes | int | None:
    """What the engine reads of an array: for small ones a copy, which is faster to pass on than their address."""
    return array.tobytes() if array.nbytes <= 4096 else _address(array)


def first_not_finite(values: FloatArray) -> int:
    """The index, in the flattened array, of the first number that is NaN or infinite, or -1."""
    return int(library().bilstm_first_not_finite(_contents(values), values.size))


def mark_unlabelled(targets: FloatArray) -> int:
    """Replace -1 by NaN, in place. Returns the index, in the flattened array, of the first number that is neither that
    nor NaN nor from 0 to 1, or -1.
    """
    return int(library().bilstm_mark_unlabelled(_address(targets), targets.size))
