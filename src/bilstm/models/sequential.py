"""Sequential: a chain of layers that is compiled, fitted, evaluated, saved. Keras's names and behaviour."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from bilstm import optimizers
from bilstm.arguments import check_choice, check_count, check_fraction, refuse_unsupported
from bilstm.callbacks import Callback, Callbacks, History, Logs
from bilstm.engine.network import Network
from bilstm.engine.plans import PRECISIONS
from bilstm.layers import (
    Layer,
)
from bilstm.modelfile import write_model
from bilstm.models.fitting import UNWATCHED, FitData, Scores, Watch, check_finite, run_epochs
from bilstm.models.predicting import QUEUES, PredictingChain, batch_size_of, is_small, verbosity_of
from bilstm.models.targets import LOSSES, make_targets
from bilstm.ragged import FloatArray, IndexArray, as_ragged

# Metric names -> the column of a score that holds their sum.
_METRICS = {
    "acc": 2,
    "accuracy": 2,
    "mse": 3,
    "mean_squared_error": 3,
    "mae": 4,
    "mean_absolute_error": 4,
}


class Sequential(PredictingChain):
    """A chain of layers.

    Args:
        layers: the layers, first to last; more can be added.
        seed: makes initial weights, shuffling and dropout repeatable; drawn at random if left out, or, after
            `bilstm.utils.set_random_seed`, from there.

    Sequences are given to its methods as a (n, steps, features) array, a list of (steps, features) arrays of
    different lengths, or a `Ragged`; there is no padding and no mask.
    """

    def __init__(
        self, layers: Iterable[Layer] | None = None, *, seed: int | None = None, name: str | None = None
    ) -> None:
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: str | None = None
        self.metrics: list[str] = []
        self.history = History()  # of the last fit
        self.stop_training = False
        super().__init__(layers, seed=seed, name=name)

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
            loss: "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy" or
                "mean_squared_error" ("mse").
            metrics: any of "accuracy" ("acc"), "mean_squared_error" ("mse"), "mean_absolute_error" ("mae").
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
        self.loss = check_choice("compile", "loss", loss, LOSSES)
        several = [metrics] if isinstance(metrics, str) else metrics or ()
        self.metrics = [check_choice("compile", "metrics", metric, _METRICS) for metric in several]
        self.recompute = check_choice("compile", "recompute", recompute, (False, True))
        self.optimizer = optimizers.get(optimizer)

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        **keywords: Any,
    ) -> History:
        """Train.

        Args:
            x: sequences (see the class).
            y: (n, steps, outputs) or (n, steps) or like x a list or a Ragged; (n, outputs) or (n,) where the model
                returns one row for a sequence. NaN, or -1 for the cross-entropies: unlabelled, used as context but
                not scored.
            batch_size: sequences in a training step; 32 if left out.
            epochs: passes over the sequences.
            verbose: 0 silent, 1 or "auto" a bar (only a line where the output is no terminal), 2 a line an epoch.
            callbacks: what is told of the training, of `bilstm.callbacks`.
            validation_split: the share of sequences, from the end, that is held out.
            validation_data: (x, y) or (x, y, sample_weight).
            shuffle: whether each epoch takes the sequences in another order.
            class_weight: class -> weight of its rows' losses.
            sample_weight: a number for each sequence or for each step.
            initial_epoch: the number of the first epoch, where a training goes on.
            validation_freq: after how many epochs each validation comes.

        Returns:
            A History with a number for each epoch of "loss", the metrics, and their "val_" counterparts.

        Raises:
            ValueError: arguments or arrays that do not fit together.
            DivergedError: x holds NaN or infinity, or the loss is no longer finite.
        """
        epochs = check_count("fit", "epochs", keywords.pop("nb_epoch", epochs))  # Keras 1's name
        refuse_unsupported("fit", keywords, {"steps_per_epoch": None, "validation_steps": None} | _FLOAT32 | QUEUES)
        initial_epoch = check_count("fit", "initial_epoch", initial_epoch, 0)
        check_choice("fit", "shuffle", shuffle, (True, False))
        batch_size = batch_size_of("fit", batch_size)
        every = check_count("fit", "validation_freq", validation_freq)
        training = self._fit_data(x, y, sample_weight, class_weight)
        check_finite(training.data)
        validation = None
        if validation_data is not None:
            if not 2 <= len(validation_data) <= 3:
                raise ValueError("fit: validation_data is (x, y) or (x, y, sample_weight)")
            validation = self._fit_data(*validation_data)
        elif validation_split:
            share = check_fraction("fit", "validation_split", validation_split)
            # As in Keras, class weights are for training only.
            unweighted = training if class_weight is None else self._fit_data(x, y, sample_weight)
            training, validation = training.split(share)[0], unweighted.split(share)[1]
        if not len(training.chosen):
            raise ValueError("fit: x has no sequences to train on")

        names = ["loss", *self.metrics]
        self.history = History()
        told = Callbacks.of(
            "fit",
            [self.history, *([callbacks] if isinstance(callbacks, Callback) else callbacks or ())],
            self,
            verbose=verbosity_of("fit", verbose),
            epochs=epochs,
            steps=-(-len(training.chosen) // batch_size),
            batch_size=batch_size,
            metrics=names + [f"val_{name}" for name in names if validation is not None],
        )
        watch = Watch(told, batch_size_of("fit", validation_batch_size or batch_size, "validation_batch_size"))

        def validate(epoch: int) -> Logs:
            if validation is None or (epoch + 1) % every:
                return {}
            scores = self.score(validation, watch)
            return {f"val_{name}": value for name, value in self.logs_of(scores).items()}

        run_epochs(
            self,
            training,
            batch_size=batch_size,
            epochs=range(initial_epoch, epochs),
            shuffle=shuffle,
            validate=validate,
            callbacks=told,
            verbose=verbosity_of("fit", verbose),
        )
        return self.history

    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> float | list[float]:
        """One training step on all of x. Returns the loss before the step, or [loss, metrics…]."""
        if sample_weight is None and class_weight is None and is_small(x):
            scores = self._train_small(x, y)
            if scores is not None:
                return self._as_list(scores)
        batch = self._fit_data(x, y, sample_weight, class_weight)
        if not len(batch.chosen):
            raise ValueError("train_on_batch: x has no sequences to train on")
        check_finite(batch.data)
        starts = np.array([0, len(batch.chosen)], np.int64)
        return self._as_list(self.train_batches(batch, batch.chosen, starts)[0])

    def _train_small(self, x: FloatArray, y: Any) -> Scores | None:
        """What `train_on_batch` does, if x and y can go to the engine as they are; its checks then suffice."""
        network, optimizer = self.network, self.optimizer
        if network is None or optimizer is None or self.loss not in _SHARES or not is_small(y, network.one_row_each):
            return None
        rows = x.shape[:1] if network.one_row_each else x.shape[:2]
        if y.shape != (*rows, network.outputs) or x.shape[2] != network.features:
            return None
        self._choose_recompute(network)
        return network.train_equal(x, y, self.loss, optimizer.plan(), self.seed)

    def train_batches(self, training: FitData, chosen: IndexArray, starts: IndexArray) -> Scores:
        """A training step for each batch chosen[starts[i]:starts[i + 1]]; returns the engine's (batches, 5) scores."""
        assert self.network is not None
        assert self.optimizer is not None
        assert self.loss is not None
        loss = LOSSES[self.loss]
        self._choose_recompute(self.network)
        return self.network.train(
            training.data, training.targets, chosen, starts, loss, self.optimizer.plan(), self.seed
        )

    def _choose_recompute(self, network: Network) -> None:
        if network.recompute != self.recompute:
            network.recompute = self.recompute

    def _fit_data(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> FitData:
        if self.loss is None:
            raise ValueError("the model must be compiled first: compile(loss=…)")
        data = as_ragged(x)
        network = self._network_for(data)
        targets = make_targets(
            y,
            data,
            loss=self.loss,
            outputs=network.outputs,
            one_row_each=network.one_row_each,
            sample_weight=sample_weight,
            class_weight=class_weight,
        )
        return FitData.all_of(data, targets)

    # --- Evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        precision: str = "float32",
        **keywords: Any,
    ) -> float | list[float] | Logs:
        """The loss, or [loss, metrics…], over all labelled rows; a dict with return_dict.

        Args:
            batch_size: what the bar counts and callbacks are told is a batch; 32 if left out. Results do not depend
                on it.
            verbose: 0 silent, 1 or "auto" a bar, 2 a line.
            precision: of the weights of recurrent, Dense and attention layers: "float32", or "bfloat16": rounded to 8
                significant bits, so that half as much is read of them. Biases, embeddings, attention's query and all
                arithmetic stay float32. Faster where weights are many and sequences few; probabilities change by some
                1e-4, in all the same way on every processor (docs/engine.md). Training is always in float32.

        Raises:
            ValueError: the model is not compiled, arrays that do not fit together, or another precision.
        """
        refuse_unsupported("evaluate", keywords, {"steps": None} | QUEUES)
        check_choice("evaluate", "precision", precision, PRECISIONS)
        data = self._fit_data(x, y, sample_weight)
        watch = self._watch("evaluate", len(data.data), batch_size, verbose, callbacks)
        scores = self.score(data, watch, precision)
        return self.logs_of(scores) if return_dict else self._as_list(scores)

    test_on_batch = evaluate

    def score(self, validation: FitData, watch: Watch = UNWATCHED, precision: str = "float32") -> Scores:
        """The engine's (5,) sums over the chosen sequences; see `Network.train`."""
        network, loss, sums = self._built_network(), LOSSES[str(self.loss)], np.zeros(5)

        def add(piece: slice) -> Logs:
            sums[:] += network.evaluate(*validation.take(piece, network.one_row_each), loss, precision)
            return self.logs_of(sums)

        watch.over("test", validation.data.lengths[validation.chosen], self.weights_per_step, add)
        return sums

    def logs_of(self, scores: Scores) -> Logs:
        """(5,) sums -> {"loss": …, metrics…}, means over labelled rows (NaN where there are none)."""
        rows = float(scores[1]) or float("nan")
        return {"loss": float(scores[0]) / rows} | {m: float(scores[_METRICS[m]]) / rows for m in self.metrics}

    def _as_list(self, scores: Scores) -> float | list[float]:
        values = list(self.logs_of(scores).values())
        return values if self.metrics else values[0]

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

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same model, without its weights."""
        config = super().get_config()
        if self.loss is not None and self.optimizer is not None:
            config["compile"] = {
                "loss": self.loss,
                "metrics": self.metrics,
                "optimizer": {"kind": self.optimizer.kind, **self.optimizer.get_config()},
            }
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, seed: int | None = None, draw: bool = True) -> Self:
        """As for a chain of layers; and compiles the model, if it was."""
        model = super().from_config(config, seed=seed, draw=draw)
        compiled = config.get("compile")
        if compiled is not None:
            settings = dict(compiled["optimizer"])
            kind = check_choice("compile", "optimizer", settings.pop("kind", None), optimizers.OPTIMIZERS)
            model.compile(optimizers.OPTIMIZERS[kind](**settings), compiled["loss"], compiled["metrics"])
        return model

    def save(self, path: str | os.PathLike[str], overwrite: bool = True, **keywords: Any) -> None:
        """Write architecture, weights and compile settings to one safetensors file, wholly or not at all.

        The optimizer's moments are not kept, so that the file stays small.

        Raises:
            UserError: the file cannot be written, or exists and is not a bilstm model.
        """
        refuse_unsupported("save", keywords, {"include_optimizer": False, "save_format": None, "zipped": None})
        if not overwrite and os.path.exists(path):
            raise ValueError(f"{os.fspath(path)} exists already")
        tensors = self.tensors()
        write_model(path, tensors, {"kind": "sequential", "model": self.get_config()})


_ARRAYS = ("weights", "first_moments", "second_moments")  # of the engine that a copy needs
_FLOAT32 = {"precision": "float32"}  # what training is done in


# The losses whose targets are shares of outputs, as many as these.
_SHARES = ("binary_crossentropy", "categorical_crossentropy")
