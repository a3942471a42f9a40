"""Sequential: a chain of layers that is compiled, fitted, evaluated, saved. Keras's names and behaviour."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from bilstm import optimizers, utils
from bilstm.arguments import check_choice, check_count, check_fraction, refuse_unsupported
from bilstm.callbacks import Callback, Callbacks, History, Logs
from bilstm.engine.losses import LOSSES, TargetKind
from bilstm.engine.network import Network
from bilstm.engine.plans import PRECISIONS
from bilstm.errors import UserError
from bilstm.layers import (
    Bidirectional,
    ColumnEmbedding,
    Embedding,
    Input,
    Layer,
    Padding,
    WeightSpec,
    WordEncoder,
    from_json,
    to_json,
)
from bilstm.modelfile import ModelFileError, read_model, write_model
from bilstm.models import decoding, structure
from bilstm.models.calls import steps_to_predict
from bilstm.models.fitting import (
    SILENT,
    ArrayBatches,
    CallbackContext,
    FitData,
    GivenBatches,
    Scores,
    are_batches,
    check_finite,
    run_epochs,
)
from bilstm.models.forms import batch_size_of, is_small, refuse_steps, verbosity_of
from bilstm.models.lookahead import LookAhead, LookAheadStream
from bilstm.models.predictor import Predictor
from bilstm.models.stream import Stream
from bilstm.models.targets import make_targets
from bilstm.models.truncation import check_truncation, train_in_chunks
from bilstm.ragged import FloatArray, IndexArray, Ragged, as_ragged, offsets_of

# Metric names -> the column of a score that holds their sum.
_RIGHT = 2
_METRICS = {
    "acc": _RIGHT,
    "accuracy": _RIGHT,
    "mse": 3,
    "mean_squared_error": 3,
    "mae": 4,
    "mean_absolute_error": 4,
}
_MOST_PARAMETERS = 1 << 33
_FLOAT32 = {"precision": "float32"}  # what training is done in
# Of Keras 2's predict, evaluate and fit: how arrays were fetched, which here need no fetching.
_QUEUES = {"max_queue_size": 10, "workers": 1, "use_multiprocessing": False}


class Sequential:
    """A chain of layers.

    Args:
        layers: the layers, first to last; more can be added.
        seed: makes initial weights, shuffling and dropout repeatable; drawn at random if left out, or, after
            `bilstm.utils.set_random_seed`, from there.
        name: what `summary` calls the model.

    Sequences are given to its methods as a (n, steps, features) array, a list of (steps, features) arrays of
    different lengths, or a `Ragged`. Padded arrays need a `Masking` layer, or `Embedding` with mask_zero, that says
    which steps are padding.

    Attributes:
        layers: the layers.
        name, seed: see above.
        random: the generator behind initial weights and shuffling.
        input_features: the number of features of a step, or None until it is known.
        network: the engine's network, or None until the model is built.
        weights_per_step: the number of weights that the engine multiplies each step by, all but embeddings.
        optimizer, loss, metrics, recompute: of `compile`.
        history: the `History` of the last `fit`.
        stop_training: set it in a callback to end a `fit`.
    """

    def __init__(
        self,
        layers: Iterable[Layer] | None = None,
        *,
        seed: int | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        refuse_unsupported("Sequential", keywords, {"trainable": True})
        self.name = name or "sequential"
        self.seed = utils.new_seed() if seed is None else check_count("Sequential", "seed", seed, 0)
        self.random = np.random.default_rng(self.seed)
        self.layers: list[Layer] = []
        self.network: Network | None = None
        self.weights_per_step = 0
        self.input_features: int | None = None
        self._specs: list[list[WeightSpec]] = []
        self._input: Input | None = None
        self._mask_value: float | None = None  # of steps that are left out
        self._padding: Padding | None = None
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: str | None = None
        self.metrics: list[str] = []
        self.recompute = False
        self.history = History()
        self.stop_training = False
        for layer in layers or ():
            self._append(layer)
        self._build_if_known()

    def __repr__(self) -> str:
        size = f"{self.count_params():,} parameters" if self.built else "not built"
        plural = "" if len(self.layers) == 1 else "s"
        return f"{type(self).__name__}({len(self.layers)} layer{plural}, {size})"

    def _repr_html_(self) -> str | None:
        return structure.summary_html(self) if self.built else None

    # --- Structure -----------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer. With an input shape on the first, or known from data, the model is (re)built at once.

        Raises:
            ValueError: the layer does not fit after the ones before it.
        """
        keep, features = self.get_weights() if self.built else [], self.input_features
        if not self._append(layer):
            return
        try:
            self._build_if_known(keep)
        except Exception:
            self.layers.pop()
            self.input_features = features
            raise

    def _append(self, layer: Layer) -> bool:
        """Append a layer without building the model. Returns False for an Input, which is no layer of its own."""
        structure.check_follows(layer, self.layers)
        if not self.layers:
            self.input_features = structure.features_of(layer, self._input, self.input_features)
        if isinstance(layer, Input):
            self._input = layer
            return False
        self.layers.append(layer)
        return True

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for inputs of shape (…, features)."""
        self._build(check_count("build", "the number of features", input_shape[-1]))

    def _build_if_known(self, keep: Sequence[FloatArray] = (), *, draw: bool = True) -> None:
        if self.input_features is not None:
            self._build(self.input_features, keep, draw=draw)

    def _build(self, features: int, keep: Sequence[FloatArray] = (), *, draw: bool = True) -> None:
        specs: list[list[WeightSpec]] = []
        width = features
        initial: list[FloatArray] = []
        for layer in self.layers:
            output = layer.output_features(width)
            specs.append(layer.weight_specs(width))
            if sum(spec.size for spec in specs[-1]) > _MOST_PARAMETERS:
                raise ValueError(f"{type(layer).__name__} would have more than {_MOST_PARAMETERS:,} parameters")
            if len(initial) < len(keep):
                initial += keep[len(initial) : len(initial) + len(specs[-1])]
            elif draw:
                initial += layer.initial_weights(width, self.random)
            else:
                initial += [np.zeros(spec.shape, np.float32) for spec in specs[-1]]
            width = output
        plans = structure.plan_layers(self.layers, features)
        if not plans:
            return
        padding = structure.padding_of(self.layers)
        self.network = Network(plans, features)
        self._padding = padding
        self._specs = specs
        self._mask_value = structure.mask_value_of(self.layers[0])
        self.weights_per_step = sum(
            spec.size
            for layer, own in zip(self.layers, specs, strict=True)
            if not isinstance(layer, (Embedding, ColumnEmbedding, WordEncoder))
            for spec in own
        )
        self.input_features = features
        for index, layer in enumerate(self.layers):
            layer._owner = weakref.ref(self), index
        self.set_weights(initial)

    @property
    def built(self) -> bool:
        """Whether the weights exist, which the number of features decides."""
        return self.network is not None

    def _built_network(self, features: int | None = None) -> Network:
        if self.network is None:
            if not self.layers:
                raise ValueError("the model has no layers yet: add some")
            features = features or self.input_features
            if features is None:
                raise ValueError("the model has no weights yet: give the first layer input_shape=(steps, features)")
            self._build(features)
        if self.network is None:
            raise ValueError(f"the model does nothing yet: add a layer after {self.layers[-1]!r}")
        return self.network

    def _network_for(self, data: Ragged) -> Network:
        # Without sequences the number of features is not known either.
        return self._built_network(data.features if len(data) else None)

    @property
    def splits(self) -> bool:
        """Whether there are two outputs, as after Bidirectional(merge_mode=None)."""
        return bool(self.layers) and structure.two_outputs(self.layers[-1])

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers, their output shapes and numbers of parameters."""
        self._built_network()
        for line in structure.summary_lines(self):
            print_fn(line)

    def count_params(self) -> int:
        """The number of values in all weight arrays together."""
        return self._built_network().parameter_count

    # --- Weights -------------------------------------------------------------------------------------------------

    def get_weights(self) -> list[FloatArray]:
        """All weight arrays, layer by layer, in Keras's order (see each layer); float32 copies."""
        return self._unflatten(self._built_network().read())

    def _unflatten(self, flat: FloatArray) -> list[FloatArray]:
        specs = [spec for specs in self._specs for spec in specs]
        arrays = np.split(flat, np.cumsum([spec.size for spec in specs])[:-1]) if specs else []
        return [array.reshape(spec.shape) for spec, array in zip(specs, arrays, strict=True)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weight arrays, in the order of `get_weights`.

        Raises:
            ValueError: another number of arrays, another shape, a value that is not finite, or a negative variance.
        """
        network = self._built_network()
        specs = [spec for specs in self._specs for spec in specs]
        if len(weights) != len(specs):
            raise ValueError(f"set_weights: the model has {len(specs)} weight arrays, not {len(weights)}")
        arrays = [np.asarray(weight, np.float32) for weight in weights]
        for name, spec, array in zip(structure.tensor_names(self._specs), specs, arrays, strict=True):
            if array.shape != spec.shape:
                raise ValueError(f"set_weights: {name} has shape {spec.shape}, not {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"set_weights: {name} holds NaN or infinity")
            if not spec.negative and (array < 0).any():
                raise ValueError(f"set_weights: {name} holds a negative number")
        network.write(np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0, np.float32))

    def _weights_of(self, layer: int) -> slice:
        """Which of `get_weights` are a layer's."""
        start = sum(map(len, self._specs[:layer]))
        return slice(start, start + len(self._specs[layer]))

    def tensors(self) -> dict[str, FloatArray]:
        """The weight arrays by names that are unique in the model."""
        return dict(zip(structure.tensor_names(self._specs), self.get_weights(), strict=True))

    def set_tensors(self, tensors: Mapping[str, Any]) -> None:
        """The reverse of `tensors`.

        Raises:
            ValueError: an array is missing, superfluous, or of another shape.
        """
        self._built_network()
        names = structure.tensor_names(self._specs)
        missing, extra = [n for n in names if n not in tensors], sorted(set(tensors).difference(names))
        if missing or extra:
            raise ValueError(
                f"weights {', '.join((missing or extra)[:3])} {'are missing' if missing else 'are unknown'}"
            )
        self.set_weights([tensors[name] for name in names])

    def save_weights(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights, and the layers that they belong to, to one safetensors file; `load_model` reads it too.

        Raises:
            UserError: the file cannot be written, or exists already and `overwrite` is False.
        """
        self._write(path, {"kind": "sequential", "model": self._architecture()}, overwrite)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Set the weights from a file that `save_weights` or `save` of a model with the same layers wrote.

        Raises:
            ModelFileError: the file is no such file, or its layers are others; the message names the first.
        """
        tensors, header = read_model(path)
        model = header.get("model")
        stored = model.get("layers") if isinstance(model, dict) else None
        if header.get("kind") != "sequential" or not isinstance(stored, list):
            raise ModelFileError(f"{os.fspath(path)} holds no weights of a Sequential model")
        self._built_network()
        kinds = [str(layer.get("class_name") if isinstance(layer, dict) else layer) for layer in stored]
        own = [type(layer).__name__ for layer in self.layers]
        for index, (there, here) in enumerate(zip_longest(kinds, own, fillvalue="missing")):
            if there != here:
                raise ModelFileError(f"{os.fspath(path)}: layer {index} is {there} in the file, but {here} here")
        try:
            self.set_tensors(tensors)
        except ValueError as error:
            raise ModelFileError(f"{os.fspath(path)} does not fit this model: {error}") from None

    # --- Training ------------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "adam",
        loss: str | None = None,
        metrics: Sequence[str] | str | None = None,
        *,
        recompute: bool = False,
        **keywords: Any,
    ) -> None:
        """Choose how to train.

        Args:
            optimizer: "adam", "adamw", "sgd" or one of `bilstm.optimizers`.
            loss: "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy",
                "mean_squared_error" ("mse"), "mean_absolute_error" ("mae") or "huber" (with a delta of 1); where the
                last layer is a `CRF`, "crf_likelihood" ("crf").
            metrics: any of "accuracy" ("acc"), "mean_squared_error" ("mse"), "mean_absolute_error" ("mae"). After a
                `CRF`, the accuracy of `evaluate` and of validation is that of the labels that are predicted, see
                `predict_classes`; while training, that of the likeliest label of each step.
            recompute: whether training keeps less of a batch in memory, for very long sequences, and computes it
                again: a recurrent layer needs a half to a third as much, and up to a third more time. The results
                are the same to the last bit.

        Raises:
            ValueError: an argument is none of these, or one of Keras's that is not supported.
        """
        unsupported = {
            "loss_weights": None,
            "weighted_metrics": None,
            "run_eagerly": (None, False, True),
            "steps_per_execution": 1,
            "jit_compile": (None, "auto", True, False),
            "sample_weight_mode": (None, "temporal"),
            "auto_scale_loss": (True, False),
        }
        refuse_unsupported("compile", keywords, unsupported)
        loss = check_choice("compile", "loss", loss, LOSSES)
        if self.layers:
            structure.check_loss(self.layers, loss)
        several = [metrics] if isinstance(metrics, str) else metrics or ()
        checked = [check_choice("compile", "metrics", metric, _METRICS) for metric in several]
        recompute = check_choice("compile", "recompute", recompute, (False, True))
        # All at once, so that arguments that are refused change nothing.
        self.optimizer, self.loss, self.metrics, self.recompute = optimizers.get(optimizer), loss, checked, recompute

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        *,
        truncate: int | None = None,
        **keywords: Any,
    ) -> History:
        """Train.

        Args:
            x: sequences (see the class); or batches (x, y) or (x, y, sample_weight), from a generator or an object
                with a length and an index, such as `bilstm.utils.Sequence`.
            y: (n, steps, outputs) or (n, steps) or like x a list or a Ragged; (n, outputs) or (n,) where the model
                returns one row for a sequence. NaN, or -1 for labels and cross-entropies: unlabelled, used as context
                but not scored. After a CRF labels, or 1 for each label that a step may have and 0 for the others.
            batch_size: sequences in a training step; 32 if left out.
            epochs: passes over the sequences.
            verbose: 0 silent, 1 or "auto" a bar (only a line where the output is no terminal), 2 a line per epoch.
            callbacks: of `bilstm.callbacks`.
            validation_split: the share of sequences, from the end, that makes the validation set.
            validation_data: (x, y) or (x, y, sample_weight); or batches, which are drawn once, before training.
            shuffle: whether each epoch takes the sequences, or the batches of an indexed object, in another order.
            class_weight: class -> weight of its rows' losses.
            sample_weight: a number for each sequence or for each step.
            initial_epoch: the number of the first epoch, where a training continues.
            steps_per_epoch: batches of an epoch from a generator; left out, all that there are.
            validation_steps: how many batches `validation_data` has, if it is a generator; left out, all.
            validation_batch_size: sequences in what callbacks see as a batch of validation; `batch_size` if left out.
            validation_freq: after how many epochs each validation comes.
            truncate: truncated backpropagation, for very long sequences: cut each batch's sequences into chunks of
                this number of steps, and make a training step of each chunk, the first chunks first. Recurrent states
                go from one chunk to the next, gradients do not. Only for layers that read forward. None: whole
                sequences; the same, to the last bit, as a number that no sequence exceeds.

        Returns:
            A History with a value for each epoch of "loss", the metrics, and their "val_" counterparts.

        Raises:
            ValueError: arguments or arrays that do not fit together, NaN or infinity in x, data without labels.
            DivergedError: the loss is no longer finite.
        """
        epochs = check_count("fit", "epochs", keywords.pop("nb_epoch", epochs))  # Keras 1's name
        refuse_unsupported("fit", keywords, _FLOAT32 | _QUEUES)
        initial_epoch = check_count("fit", "initial_epoch", initial_epoch, 0)
        check_choice("fit", "shuffle", shuffle, (True, False))
        every = check_count("fit", "validation_freq", validation_freq)
        if truncate is not None:
            check_count("fit", "truncate", truncate)
            check_truncation(self.layers)
        size = batch_size_of("fit", batch_size)
        validation: FitData | None = None
        if validation_data is not None:
            validation = self._validation_data(validation_data, validation_steps)
        else:
            refuse_steps("fit", "validation_steps", validation_steps)
        training: ArrayBatches | GivenBatches
        if are_batches(x, y):
            for name, value in (("batch_size", batch_size), ("sample_weight", sample_weight)):
                if value is not None:
                    raise ValueError(f"fit: {name}={value!r} is not supported if x makes batches")
            if validation_split:
                raise ValueError(f"fit: validation_split={validation_split!r} is not supported if x makes batches")
            training = self._given_batches("fit", x, steps_per_epoch, class_weight, shuffle)
        else:
            refuse_steps("fit", "steps_per_epoch", steps_per_epoch)
            share = 0.0 if validation else check_fraction("fit", "validation_split", validation_split)
            data, split_off = self._training_data(x, y, sample_weight, class_weight, share)
            training, validation = ArrayBatches(data, size, shuffle), validation or split_off

        names = ["loss", *self.metrics]
        self.history = History()
        all_callbacks = Callbacks.of(
            "fit",
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), self.history],
            self,
            verbose=verbosity_of("fit", verbose),
            epochs=epochs,
            steps=training.count,
            batch_size=size if isinstance(training, ArrayBatches) else None,
            metrics=names + [f"val_{name}" for name in names if validation is not None],
        )
        if validation_batch_size is not None:
            size = batch_size_of("fit", validation_batch_size, "validation_batch_size")
        context = CallbackContext(all_callbacks, size)

        def validate(epoch: int) -> Logs:
            if validation is None or (epoch + 1) % every:
                return {}
            scores = self.score(validation, context)
            return {f"val_{name}": value for name, value in self.logs_of(scores).items()}

        run_epochs(
            self,
            training,
            epochs=range(initial_epoch, epochs),
            validate=validate,
            callbacks=all_callbacks,
            verbose=verbosity_of("fit", verbose),
            train=self.train_batches if truncate is None else partial(self.train_batches, truncate=truncate),
        )
        return self.history

    def _training_data(
        self, x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None, share: float
    ) -> tuple[FitData, FitData | None]:
        """The training set, and this share of the sequences as validation set, or None."""
        data, validation = self._fit_data(x, y, sample_weight, class_weight, complete=True), None
        if share:
            # As in Keras, class weights are for training only.
            unweighted = data if class_weight is None else self._fit_data(x, y, sample_weight)
            data, validation = data.split(share)[0], unweighted.split(share)[1]
            self._check_labelled(f"fit: the validation set (validation_split={share})", validation)
        if not len(data.chosen):
            raise ValueError("fit: x has no sequences to train on")
        return self._check_labelled("fit: the training set", data), validation

    def _validation_data(self, data: Any, steps: int | None) -> FitData:
        if are_batches(data, None):
            return self._gathered("fit", data, steps)
        refuse_steps("fit", "validation_steps", steps)
        if not isinstance(data, (list, tuple)) or not 2 <= len(data) <= 3:
            raise ValueError("fit: validation_data is (x, y) or (x, y, sample_weight)")
        return self._check_labelled("fit: validation_data", self._fit_data(*data, complete=True))

    def _given_batches(
        self,
        owner: str,
        source: Any,
        steps: int | None,
        class_weight: Mapping[int, float] | None = None,
        shuffle: bool = False,
    ) -> GivenBatches:
        if steps is not None:
            check_count(owner, "steps", steps)

        def prepare(x: Any, y: Any, sample_weight: Any = None) -> FitData:
            return self._fit_data(x, y, sample_weight, class_weight)

        return GivenBatches(owner, source, steps, prepare, shuffle=shuffle)

    def _gathered(self, owner: str, source: Any, steps: int | None) -> FitData:
        """All sequences of the first batches of a generator, or of all batches."""
        data = FitData.joined(list(self._given_batches(owner, source, steps).batches()))
        return self._check_labelled("fit: validation_data" if owner == "fit" else f"{owner}: x", data)

    def _check_labelled(self, what: str, data: FitData) -> FitData:
        return data.check_labelled(what, self._built_network().one_row_each)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """One training step on all of x. Returns the loss before it, or [loss, metrics…]; a dict with return_dict.

        Raises:
            ValueError: arrays that do not fit together, or NaN or infinity in x.
        """
        scores = None
        if sample_weight is None and class_weight is None and is_small(x):
            scores = self._train_small(x, y)
        if scores is None:
            batch = self._fit_data(x, y, sample_weight, class_weight)
            if not len(batch.chosen):
                raise ValueError("train_on_batch: x has no sequences to train on")
            scores = self.train_batches(batch, batch.chosen, np.array([0, len(batch.chosen)], np.int64))[0]
        return self.logs_of(scores) if return_dict else self._as_list(scores)

    def _train_small(self, x: FloatArray, y: Any) -> Scores | None:
        """What `train_on_batch` does, if x and y can go to the engine as they are; its checks then suffice."""
        network, optimizer = self.network, self.optimizer
        if network is None or optimizer is None or self.loss is None or not is_small(y, network.one_row_each):
            return None
        if LOSSES[self.loss].targets is not TargetKind.PROBABILITIES:
            return None
        rows = x.shape[:1] if network.one_row_each else x.shape[:2]
        if y.shape != (*rows, network.outputs) or x.shape[2] != network.features or self._changes_steps:
            return None
        self._choose_recompute(network)
        step = network.iteration if optimizer.scheduled else 0
        return network.train_equal(x, y, self.loss, optimizer.plan(step), self.seed)

    def train_batches(
        self, training: FitData, chosen: IndexArray, starts: IndexArray, truncate: int | None = None
    ) -> Scores:
        """A training step for each batch chosen[starts[i]:starts[i + 1]], or for each chunk of at most `truncate` steps
        of its sequences; returns the engine's (batches, 5) scores.
        """
        network, optimizer = self.network, self.optimizer
        assert network is not None
        assert optimizer is not None
        assert self.loss is not None
        data, targets, loss = training.data, training.targets, self.loss
        self._choose_recompute(network)
        if truncate is not None:
            settings: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "seed": self.seed}
            return train_in_chunks(network, training, chosen, starts, truncate, **settings)
        if not optimizer.scheduled:
            return network.train(data, targets, chosen, starts, loss, optimizer.plan(), self.seed)
        scores = np.zeros((len(starts) - 1, 5))
        for batch in range(len(scores)):  # each has a learning rate of its own
            plan = optimizer.plan(network.iteration)
            scores[batch] = network.train(data, targets, chosen, starts[batch : batch + 2], loss, plan, self.seed)[0]
            if not np.isfinite(scores[batch, 0]):
                break
        return scores

    def _choose_recompute(self, network: Network) -> None:
        if network.recompute != self.recompute:
            network.recompute = self.recompute

    def _fit_data(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        *,
        complete: bool = False,
    ) -> FitData:
        """x and y in the engine's form, without masked steps. `complete`: see `make_targets`."""
        if self.loss is None:
            raise ValueError("the model must be compiled first: compile(loss=…)")
        data = as_ragged(x)
        network = self._network_for(data)
        if self._padding is not None:
            raise ValueError(f"{self._padding!r} is for predictions: a model with it is neither trained nor scored")
        check_finite(data)
        unmasked, kept = self._unmasked(data)
        targets = make_targets(
            y,
            data,
            loss=self.loss,
            outputs=network.outputs,
            one_row_each=network.one_row_each,
            sample_weight=sample_weight,
            class_weight=class_weight,
            kept=None if network.one_row_each else kept,
            complete=complete,
        )
        return FitData.all_of(unmasked, targets)

    @property
    def _changes_steps(self) -> bool:
        """Whether the network reads other steps than those that are given."""
        return self._mask_value is not None or self._padding is not None

    def _unmasked(self, data: Ragged) -> tuple[Ragged, npt.NDArray[np.bool_] | None]:
        """The sequences without their masked steps, and (total_steps,) which steps are kept; None: all.

        Raises:
            UserError: all steps of a sequence are masked.
        """
        if self._mask_value is None:
            return data, None
        kept = (data.values != self._mask_value).any(axis=1)
        if kept.all():
            return data, None
        offsets = offsets_of(kept)[data.offsets]
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            raise UserError(
                f"sequence {empty[0]} of x has only masked steps, with the value {self._mask_value:g}: leave it out"
            )
        return data.take_steps(kept, offsets), kept

    # --- Evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        return_dict: bool = False,
        *,
        precision: str = "float32",
        **keywords: Any,
    ) -> float | list[float] | Logs:
        """The loss, or [loss, metrics…], over all labelled rows; a dict with return_dict.

        Args:
            x, y, sample_weight: as of `fit`; x may make batches.
            batch_size: the number of sequences that the bar and callbacks count as a batch; 32 if left out. Results do
                not depend on it.
            verbose: 0 silent, 1 or "auto" a bar, 2 a line.
            steps: how many batches are evaluated, if x is a generator; left out, all.
            callbacks: of `bilstm.callbacks`.
            precision: of the weights of recurrent, Dense and attention layers: "float32", or "bfloat16": rounded to 8
                significant bits, so that half as much is read of them. Biases, embeddings, attention's query and all
                arithmetic stay float32. Faster where weights are many and sequences few; probabilities change by some
                1e-4, in all the same way on every processor (docs/engine.md). Training is always in float32.

        Raises:
            ValueError: the model is not compiled, arrays that do not fit together or have no labels, NaN or infinity in
                x, or another precision.
        """
        refuse_unsupported("evaluate", keywords, _QUEUES)
        check_choice("evaluate", "precision", precision, PRECISIONS)
        if are_batches(x, y):
            data = self._gathered("evaluate", x, steps)
        else:
            refuse_steps("evaluate", "steps", steps)
            data = self._check_labelled("evaluate: y", self._fit_data(x, y, sample_weight, complete=True))
        context = self._context("evaluate", len(data.data), batch_size, verbose, callbacks)
        scores = self.score(data, context, precision)
        return self.logs_of(scores) if return_dict else self._as_list(scores)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | Logs:
        """The loss, or [loss, metrics…], over the labelled rows of one batch; NaN if there are none. A dict with
        return_dict.

        Raises:
            ValueError: arrays that do not fit together, or NaN or infinity in x.
        """
        scores = self.score(self._fit_data(x, y, sample_weight))
        return self.logs_of(scores) if return_dict else self._as_list(scores)

    def score(self, validation: FitData, context: CallbackContext = SILENT, precision: str = "float32") -> Scores:
        """The engine's (5,) sums over the chosen sequences; see `Network.train`. After a `CRF`, a row is right if the
        label of its sequence's likeliest labels is.
        """
        network, loss, sums = self._built_network(), str(self.loss), np.zeros(5)
        # What is right after a CRF are the labels that it predicts, rather than the likeliest one of each step.
        decoded = decoding.decodes(self) and any(_METRICS[name] == _RIGHT for name in self.metrics)

        def add(chunk: slice) -> Logs:
            data, targets = validation.take(chunk, network.one_row_each)
            scores = network.evaluate(data, targets, loss, precision)
            if decoded:
                scores[_RIGHT] = decoding.count_right(network, data, targets, precision)
            sums[:] += scores
            return self.logs_of(sums)

        context.over("test", validation.data.lengths[validation.chosen], self.weights_per_step, add)
        return sums

    def logs_of(self, scores: Scores) -> Logs:
        """(5,) sums -> {"loss": …, metrics…}, means over labelled rows (NaN where there are none)."""
        rows = float(scores[1]) or float("nan")
        return {"loss": float(scores[0]) / rows} | {m: float(scores[_METRICS[m]]) / rows for m in self.metrics}

    def _as_list(self, scores: Scores) -> float | list[float]:
        values = list(self.logs_of(scores).values())
        return values if self.metrics else values[0]

    # --- Prediction ----------------------------------------------------------------------------------------------

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        precision: str = "float32",
        **keywords: Any,
    ) -> Any:
        """Outputs for every step in the form of x: (n, steps, outputs) for an array, a list for a list, a Ragged for a
        Ragged; (n, outputs) where the model returns one row for a sequence. 0 for masked steps.

        One call uses all processors. Calls for one short sequence take microseconds, half of them in Python, so that
        threads gain nothing: give many sequences to one call, or use processes.

        After Bidirectional(merge_mode=None) a list of two such results, forward's and backward's. The arguments are
        those of `evaluate`.
        """
        if keywords or steps is not None:
            refuse_steps("predict", "steps", steps)
            refuse_unsupported("predict", keywords, _QUEUES)
        check_choice("predict", "precision", precision, PRECISIONS)
        plain = not verbose and batch_size is None and callbacks is None and not self._changes_steps
        if plain and is_small(x) and self.network is not None and not self.splits:
            return self.network.predict_equal(x, precision)
        data = as_ragged(x)
        context = self._context("predict", len(data), batch_size, verbose, callbacks)
        rows = self.predict_rows(data, context, precision)
        if self.splits:
            last = self.layers[-1]
            assert isinstance(last, Bidirectional)
            halves = np.split(rows, [last.forward.units], axis=1)
            return [self._like(x, data, half) for half in halves]
        return self._like(x, data, rows)

    predict_on_batch = predict
    predict_proba = predict

    def predictor(self, *, sequences: int = 1, steps: int, precision: str = "float32") -> Predictor:
        """For predictions one after the other on arrays of one shape, where even microseconds of `predict` count.

        Args:
            sequences, steps: of the arrays.
            precision: of the weights, as for `evaluate`.

        Raises:
            ValueError: the model is not built, has two outputs as after Bidirectional(merge_mode=None), or masks or
                pads steps; or another precision.
        """
        if self.network is None:
            raise ValueError("predictor: the model is not built: give its first layer an input_shape, or call build")
        if self.splits:
            raise ValueError("predictor: Bidirectional(merge_mode=None) has two outputs: use predict")
        if self._changes_steps:
            raise ValueError(f"predictor: {self.layers[0]!r} leaves out or adds steps: use predict")
        check_count("predictor", "sequences", sequences)
        check_count("predictor", "steps", steps)
        check_choice("predictor", "precision", precision, PRECISIONS)
        return Predictor(self.network, sequences, steps, precision)

    @overload
    def stream(self, *, sequences: int = 1, precision: str = "float32") -> Stream: ...
    @overload
    def stream(self, *, look_ahead: LookAhead, block: int = 1, precision: str = "float32") -> LookAheadStream: ...
    def stream(
        self,
        *,
        sequences: int | None = None,
        look_ahead: LookAhead | None = None,
        block: int | None = None,
        precision: str = "float32",
    ) -> Stream | LookAheadStream:
        """For sequences that have not ended: predicts them piece by piece, and carries the recurrent states.

        Args:
            sequences: how many are open at a time, 1 if left out; without `look_ahead` only.
            look_ahead: None: for layers that read forward, an output at once for each step. Else how many steps an
                output waits for, from 0, or "all" for the sequence's end: layers may then read backward, too.
            block: with `look_ahead`, how many steps become final together, 1 if left out.
            precision: of the weights, as for `evaluate`.

        Returns:
            A `Stream`, or with `look_ahead` a `LookAheadStream`.

        Raises:
            ValueError: the model is not built, masks steps, or has a layer that waits for the end of its sequence, such
                as a CRF or, without `look_ahead`, Bidirectional; or another precision.
        """
        if self.network is None:
            raise ValueError("stream: the model is not built: give its first layer an input_shape, or call build")
        if look_ahead is not None:
            if sequences is not None:
                raise ValueError("stream: with look_ahead, sequences are opened by their keys: leave sequences out")
            return LookAheadStream(self, look_ahead, 1 if block is None else block, precision)
        if block is not None:
            raise ValueError("stream: block is for streams with look_ahead: leave it out")
        for layer in self.layers:
            if layer.needs_whole_sequence:
                raise ValueError(
                    f"stream: {layer!r} cannot work step by step: only layers that read forward and keep what they "
                    f"know in a state can, or others with look_ahead"
                )
        if self._mask_value is not None:
            raise ValueError(f"stream: {self.layers[0]!r} leaves out masked steps: leave them out of x instead")
        sequences = 1 if sequences is None else check_count("stream", "sequences", sequences)
        check_choice("stream", "precision", precision, PRECISIONS)
        return Stream(self, sequences, self.network.state_width, precision)

    def predict_classes(
        self, x: Any, batch_size: int | None = None, verbose: int | str = 0, *, precision: str = "float32"
    ) -> Any:
        """Class numbers in the form of `predict`: 0 or 1 of shape (…, 1) for a single output, by threshold one half;
        the largest output's number, without the last dimension, for several. After a `CRF` the likeliest labels of each
        sequence as a whole, -1 for masked steps. The arguments are those of `evaluate`.
        """
        check_choice("predict_classes", "precision", precision, PRECISIONS)
        if self.splits:
            raise ValueError("predict_classes: Bidirectional(merge_mode=None) has two outputs, which are no classes")
        data = as_ragged(x)
        if decoding.decodes(self):
            return self.decode(x, precision=precision)[0][0]
        rows = self.predict_rows(data, self._context("predict_classes", len(data), batch_size, verbose), precision)
        classes = (rows > 0.5).astype(np.int32) if rows.shape[1] == 1 else rows.argmax(axis=1).astype(np.int32)
        return self._like(x, data, classes)

    def decode(
        self, x: Any, paths: int = 1, *, precision: str = "float32"
    ) -> list[tuple[Any, npt.NDArray[np.float64]]]:
        """The likeliest labels of each sequence as a whole, of a model that ends with a `CRF`.

        Args:
            x: sequences (see the class).
            paths: how many there are to be of each sequence, from 1 to 1,000.
            precision: of the weights, as for `evaluate`.

        Returns:
            For each path, the likeliest first: labels in the form of x, (n, steps), a list of (steps,) arrays or a
            Ragged, int32, -1 for masked steps and where a sequence has fewer paths; and (n_sequences,) float64, the
            logarithms of their probabilities, minus infinity where there are fewer. Of equally likely ones first comes
            that with the lowest label at the last step where they differ.

        Raises:
            ValueError: the last layer is not a CRF, or paths or precision is none of these.
        """
        data = as_ragged(x)
        found = decoding.decode(self, data, paths, precision)
        return [(self._like(x, data, labels), log_probabilities) for labels, log_probabilities in found]

    def log_likelihoods(self, x: Any, y: Any, *, precision: str = "float32") -> npt.NDArray[np.float64]:
        """(n_sequences,) float64: the logarithm of the probability of each sequence's labels, by a `CRF`.

        Args:
            x, y: as of `fit`: labels, -1 where any may be, or 1 for each label that a step may have. So the probability
                of a span is that of labels that are known in its steps only.
            precision: of the weights, as for `evaluate`.

        Raises:
            ValueError: the last layer is not a CRF, or x and y do not fit together.
        """
        return decoding.log_likelihoods(self, x, y, precision)

    def predict_rows(self, data: Ragged, context: CallbackContext = SILENT, precision: str = "float32") -> FloatArray:
        """(total_steps or n_sequences, outputs) float32: the rows of all sequences one after the other."""
        network = self._network_for(data)
        if self._padding is not None:
            padded, own = self._padding.extended(data)
            rows = self._predict_unmasked(network, padded, context, precision)
            return rows if network.one_row_each else rows[own]
        unmasked, kept = self._unmasked(data)
        if kept is not None:
            rows = self._predict_unmasked(network, unmasked, context, precision)
            if network.one_row_each:
                return rows
            all_rows = np.zeros((data.total_steps, rows.shape[1]), np.float32)
            all_rows[kept] = rows
            return all_rows
        return self._predict_unmasked(network, data, context, precision)

    def _predict_unmasked(self, network: Network, data: Ragged, context: CallbackContext, precision: str) -> FloatArray:
        if context is SILENT and data.total_steps <= steps_to_predict(self.weights_per_step):
            return network.predict(data, precision=precision)[0]
        bounds = np.arange(len(data) + 1) if network.one_row_each else data.offsets
        rows = np.empty((bounds[-1], network.outputs), np.float32)

        def fill(chunk: slice) -> dict[str, Any]:
            outputs = rows[bounds[chunk.start] : bounds[chunk.stop]]
            outputs[:] = network.predict(data[chunk], precision=precision)[0]
            return {"outputs": outputs}

        context.over("predict", data.lengths, self.weights_per_step, fill)
        return rows

    def _context(
        self,
        owner: str,
        sequences: int,
        batch_size: int | None,
        verbose: int | str,
        callbacks: Sequence[Callback] | Callback | None = None,
    ) -> CallbackContext:
        if batch_size is None and callbacks is None and verbose == 0:
            return SILENT  # the usual case, at once: a short prediction takes microseconds
        size, verbosity = batch_size_of(owner, batch_size), verbosity_of(owner, verbose)
        steps = -(-sequences // size)
        return CallbackContext(
            Callbacks.of(owner, callbacks, self, verbose=verbosity, epochs=1, steps=steps), size, verbosity
        )

    def _like(self, x: Any, data: Ragged, rows: Any) -> Any:
        assert self.network is not None
        if self.network.one_row_each:
            return rows
        if isinstance(x, Ragged):
            return x.with_values(rows)
        if isinstance(x, (list, tuple)) or np.ndim(x) == 1:
            return np.split(rows, data.offsets[1:-1]) if len(data) else []
        return rows.reshape(len(data), np.shape(x)[1], *rows.shape[1:])

    # --- Saving --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all it takes to predict and to continue training, bit for bit."""
        state = vars(self).copy()
        if self.network is not None:  # its memory is the engine's
            state["network"] = {name: self.network.read(name) for name in _ARRAYS} | {
                "iteration": self.network.iteration
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"network": None})
        arrays = state["network"]
        if arrays is not None and self.input_features is not None:
            self._build(self.input_features, draw=False)
            network = self._built_network()
            for name in _ARRAYS:
                network.write(arrays[name], name)
            network.iteration = arrays["iteration"]

    def _architecture(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "features": self.input_features,
            "layers": [to_json(layer) for layer in self.layers],
        }

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same model, without its weights."""
        config = self._architecture()
        if self.loss is not None and self.optimizer is not None:
            config["compile"] = {
                "loss": self.loss,
                "metrics": self.metrics,
                "recompute": self.recompute,
                "optimizer": {"kind": self.optimizer.kind, **self.optimizer.get_config()},
            }
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, seed: int | None = None, draw: bool = True) -> Self:
        """The model that `get_config` described, compiled if that was.

        Args:
            seed: as for a new model.
            draw: whether to draw initial weights, rather than leave zeros where others will be set.

        Raises:
            ValueError: the data describes no model.
        """
        features, layers = config.get("features"), config.get("layers")
        if not isinstance(layers, list):
            raise ValueError("a model's layers must be a list")
        model = cls.__new__(cls)
        Sequential.__init__(model, seed=seed, name=str(config.get("name", "sequential")))
        if features is not None:
            model.add(Input((None, check_count("model", "features", features))))
        for layer in layers:
            model._append(from_json(layer))
        model._build_if_known(draw=draw)
        compiled = config.get("compile")
        if compiled is not None:
            settings = dict(compiled["optimizer"])
            kind = check_choice("compile", "optimizer", settings.pop("kind", None), optimizers.OPTIMIZERS)
            optimizer = optimizers.OPTIMIZERS[kind](**settings)
            recompute = compiled.get("recompute", False)
            model.compile(optimizer, compiled["loss"], compiled["metrics"], recompute=recompute)
        return model

    def save(
        self, path: str | os.PathLike[str], overwrite: bool = True, *, force: bool = False, **keywords: Any
    ) -> None:
        """Write architecture, weights and compile settings to one safetensors file, atomically.

        The optimizer's moments are not kept, so that the file stays small.

        Args:
            path: the file to write.
            overwrite: whether to replace a model file of bilstm's.
            force: whether to replace a file that bilstm did not write, too.
            keywords: Keras's other arguments, with the values that change nothing here.

        Raises:
            UserError: the file cannot be written, exists already and `overwrite` is False, or is not bilstm's.
        """
        refuse_unsupported("save", keywords, {"include_optimizer": False, "save_format": None, "zipped": None})
        self._write(path, {"kind": "sequential", "model": self.get_config()}, overwrite, force)

    def _write(
        self, path: str | os.PathLike[str], header: dict[str, Any], overwrite: bool, force: bool = False
    ) -> None:
        if not overwrite and os.path.exists(path):
            raise UserError(f"{os.fspath(path)} exists already")
        write_model(path, self.tensors(), header, force=force)


_ARRAYS = ("weights", "first_moments", "second_moments")  # of the engine that a copy needs
