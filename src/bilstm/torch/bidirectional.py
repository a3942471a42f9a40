"""Keras's wrappers, around modules of PyTorch's: Bidirectional and TimeDistributed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bilstm.arguments import check_choice
from bilstm.engine import plans
from bilstm.engine.plans import MERGES
from bilstm.ragged import IndexArray
from bilstm.torch.arrangement import Direction
from bilstm.torch.compiling import outside_graphs
from bilstm.torch.forms import Rows, rows_of_parts
from bilstm.torch.indices import last_rows, reversed_rows
from bilstm.torch.recurrent import GRU, LSTM, output_of_rows
from bilstm.torch.running import Engine, run
from bilstm.torch.sequences import rows_of_any


class Bidirectional(nn.Module):
    """Two recurrent modules, one reading each sequence from its first step, one from its last; Schuster & Paliwal 1997.

    Each reads real steps only: both begin at a sequence's own ends, whatever padding there is. Outputs are merged at
    each step. Two of this package's layers with one layer each run as one call of the engine, which computes both
    directions at once; all others one after the other in PyTorch.

    Args:
        layer: a recurrent module that reads forwards, such as an `LSTM`, a `torch.nn.RNN` or one of yours: called with
            a padded batch, it must return an output of the same form, or a tuple that begins with it, in which no step
            depends on later ones.
        merge_mode: "concat" (default), "sum", "mul", "ave", or None for two outputs.
        backward_layer: the module that reads backwards; it gets its steps in that order. A copy of `layer` with new
            weights if left out (the same weights, if `layer` has no `reset_parameters`).
        return_sequences: whether there is an output for each step, or only that of the last step that each direction
            processes: of a sequence's last and its first.
        batch_first: whether padded batches are (sequences, steps, features); `layer.batch_first` if left out.

    Raises:
        TypeError: a layer is not a module.
        ValueError: a layer is bidirectional itself, or the layers or arguments contradict each other.
    """

    _engine: Engine | None = None

    def __init__(
        self,
        layer: nn.Module,
        merge_mode: str | None = "concat",
        backward_layer: nn.Module | None = None,
        return_sequences: bool = True,
        *,
        batch_first: bool | None = None,
    ) -> None:
        super().__init__()
        if backward_layer is None and isinstance(layer, nn.Module):
            backward_layer = copy.deepcopy(layer)
            for module in backward_layer.modules():
                getattr(module, "reset_parameters", lambda: None)()
        for name, each in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(each, nn.Module):
                raise TypeError(f"Bidirectional: {name} must be a torch.nn.Module, not {each!r}")
            if getattr(each, "bidirectional", False):
                raise ValueError(f"Bidirectional: {name} must read in one direction, but is bidirectional itself")
        orders = {getattr(each, "batch_first", batch_first) for each in (layer, backward_layer)}
        if len(orders) > 1 or (batch_first is not None and orders != {batch_first}):
            raise ValueError("Bidirectional: layer, backward_layer and batch_first must agree on the order of batches")
        if None in orders:
            raise ValueError(f"Bidirectional: a {type(layer).__name__} has no batch_first: give it to Bidirectional")
        units = {getattr(each, "hidden_size", None) for each in (layer, backward_layer)} - {None}
        if merge_mode in ("sum", "mul", "ave") and len(units) > 1:
            raise ValueError(f"Bidirectional: merge_mode={merge_mode!r} needs layers of as many units, not of {units}")
        self.merge_mode = check_choice("Bidirectional", "merge_mode", merge_mode, (*MERGES, None))
        self.return_sequences = bool(return_sequences)
        self.batch_first = bool(orders.pop())
        self.forward_layer: Any = layer
        self.backward_layer: Any = backward_layer

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine's network, which is made again when it is needed."""
        return {name: value for name, value in vars(self).items() if name != "_engine"}

    def extra_repr(self) -> str:
        return f"merge_mode={self.merge_mode!r}, return_sequences={self.return_sequences}"

    @outside_graphs
    def forward(self, input: Any, lengths: Any = None, mask: Any = None) -> Any:
        """The merged outputs, or two outputs if merge_mode is None.

        Args:
            input: (steps, sequences, features), or (sequences, steps, features) if `batch_first`; (steps, features) for
                one sequence; a PackedSequence; or a jagged nested tensor.
            lengths: (sequences,) of padded batches, the number of real steps of each sequence, which are its first.
            mask: (steps, sequences), or (sequences, steps) if `batch_first`: not 0 for real steps, wherever they are;
                the others are left out, as by Keras.

        Returns:
            The form of the input, zeros where no steps are; without return_sequences (sequences, outputs).

        Raises:
            TypeError: the input is of another form.
            ValueError: shapes contradict each other, or a sequence has no real step.
        """
        rows = rows_of_any("Bidirectional", input, batch_first=self.batch_first, lengths=lengths, mask=mask)
        merged = self._on_engine(rows)
        shaped = rows.form.wrap if self.return_sequences else rows.by_sequence
        if merged is None:
            merged = self._by_modules(rows.values, rows.offsets)
            shaped = rows.shaped_like_input if self.return_sequences else rows.by_sequence
        return tuple(map(shaped, merged)) if isinstance(merged, tuple) else shaped(merged)

    def of_rows(self, values: Tensor, offsets: IndexArray) -> Any:
        """(total_steps, outputs), or (sequences, outputs), for the (total_steps, features) of sequences; two if
        merge_mode is None.
        """
        merged = self._on_engine(rows_of_parts(values, offsets))
        return self._by_modules(values, offsets) if merged is None else merged

    def _by_modules(self, values: Tensor, offsets: IndexArray) -> Any:
        """One direction after the other."""
        forward = output_of_rows(self.forward_layer, values, offsets, batch_first=self.batch_first)
        reverse = reversed_rows(values, offsets)
        backward = output_of_rows(self.backward_layer, reverse, offsets, batch_first=self.batch_first)
        if self.return_sequences:
            backward = reversed_rows(backward, offsets)
        else:
            forward, backward = last_rows(forward, offsets), last_rows(backward, offsets)
        return _merged(forward, backward, self.merge_mode)

    def _on_engine(self, rows: Rows) -> Any:
        """Both directions at once, in the form of the rows' data; None where the engine does not compute them."""
        both = self.forward_layer, self.backward_layer
        features, data = rows.data.shape[-1], rows.data
        for each in both:
            # Whoever derives from a layer, or hooks into it, wants its own call.
            if type(each) not in (LSTM, GRU) or each.num_layers != 1 or each.input_size != features or _hooks(each):
                return None
            each.update_weights()
            if not each.runs_here(data):
                return None
        key = *((each.mode, each.hidden_size) for each in both), features, self.merge_mode, self.return_sequences
        if self._engine is None or self._engine.key != key:  # the user may have changed the layer
            self._engine = _engine_of(both, self.merge_mode or "concat", self.return_sequences, key)
        weights = [weight for each in both for weight in each.weights_and_biases()]
        try:
            (merged,) = run(self._engine, rows, (), weights)
        except NotImplementedError:
            return None
        sizes = [each.hidden_size for each in both]
        return tuple(merged.split(sizes, dim=-1)) if self.merge_mode is None else merged


def _hooks(module: nn.Module) -> bool:
    """Whether there are any, such as those of `torch.nn.utils.weight_norm`, which make its weights."""
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
    )


def _engine_of(both: tuple[Any, Any], merge_mode: str, return_sequences: bool, key: Any) -> Engine:
    directions = [Direction(each.mode, each.hidden_size) for each in both]
    ways = [direction.plan(backward=i == 1) for i, direction in enumerate(directions)]
    kinds = [nn.LSTM if direction.mode == "LSTM" else nn.GRU for direction in directions]
    features = both[0].input_size

    def reference(rows: Rows, states: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor]:
        values, offsets, outputs = rows.values, rows.offsets, []
        for i, (kind, direction) in enumerate(zip(kinds, directions, strict=True)):
            module = kind(features, direction.units, batch_first=True)
            own = dict(zip(module._all_weights[0], weights[4 * i : 4 * i + 4], strict=True))
            output = output_of_rows(module, reversed_rows(values, offsets) if i else values, offsets, own)
            if not return_sequences:
                output = last_rows(output, offsets)
            outputs.append(reversed_rows(output, offsets) if i and return_sequences else output)
        merged: Tensor = _merged(outputs[0], outputs[1], merge_mode)
        return (rows.form.shaped(merged) if return_sequences else merged,)

    plan = [plans.recurrent(0, ways, merge_mode, return_sequences)]
    return Engine(plan, features, directions, reference, key=key)


def _merged(forward: Tensor, backward: Tensor, merge_mode: str | None) -> Any:
    if merge_mode is None:
        return forward, backward
    if merge_mode == "concat":
        return torch.cat([forward, backward], dim=-1)
    if merge_mode == "mul":
        return forward * backward
    return forward + backward if merge_mode == "sum" else (forward + backward) / 2


class TimeDistributed(nn.Module):
    """Applies a module to each time step alone, in one batch of all real steps.

    That matters for modules in which steps meet, such as `torch.nn.BatchNorm1d`, and for those that take images or
    other steps of several dimensions; a `torch.nn.Linear` alone does the same.

    Args:
        module: called with (total_steps, …).
        batch_first: whether lengths and masks are of (sequences, steps, …) rather than (steps, sequences, …).

    Raises:
        TypeError: `module` is not a module.
    """

    def __init__(self, module: nn.Module, batch_first: bool = False) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"TimeDistributed: a torch.nn.Module is needed, not {module!r}")
        self.module = module
        self.batch_first = bool(batch_first)

    def forward(self, input: Any, lengths: Any = None, mask: Any = None) -> Any:
        """The module's output at each real step, in the form of the input; zeros elsewhere.

        Args:
            input: (steps, sequences, …), or (sequences, steps, …) if `batch_first`, of three dimensions or more; a
                PackedSequence; or a jagged nested tensor.
            lengths: (sequences,) of padded batches, the number of real steps of each sequence, which are its first.
            mask: of the input's first two dimensions, not 0 for real steps.

        Raises:
            TypeError: the input is of another form.
            ValueError: shapes contradict each other, or a sequence has no real step.
        """
        if isinstance(input, PackedSequence) and lengths is None and mask is None:
            return input._replace(data=self.module(input.data))
        shape: tuple[int, ...] = ()
        if isinstance(input, Tensor) and not input.is_nested:
            if input.dim() < 3:
                raise ValueError(f"TimeDistributed: a batch has three dimensions or more, not {tuple(input.shape)}")
            shape = tuple(input.shape[2:])
            input = input.flatten(2)
        rows = rows_of_any("TimeDistributed", input, batch_first=self.batch_first, lengths=lengths, mask=mask)
        output = self.module(rows.values.view(-1, *shape) if shape else rows.values)
        return _unflattened(rows, output)


def _unflattened(rows: Rows, output: Tensor) -> Any:
    """In the form of the input, where a step's output has any number of dimensions."""
    shaped = rows.shaped_like_input(output.flatten(1) if output.dim() > 2 else output)
    return shaped.unflatten(2, output.shape[1:]) if output.dim() > 2 else shaped
