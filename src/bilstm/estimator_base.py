"""What the estimators have in common: fitting, the network, and scikit-learn's protocol."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

try:
    from sklearn.base import BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted as check_is_fitted
    from sklearn.utils.validation import column_or_1d as column_or_1d
except ImportError as error:
    raise ImportError("bilstm's estimators need scikit-learn 1.6 or later: pip install 'bilstm[sklearn]'") from error

from bilstm.arguments import check_choice
from bilstm.columns import describe_columns
from bilstm.engine.network import Targets
from bilstm.errors import listed
from bilstm.fitting import DivergedError, FitData
from bilstm.frames import Frame, is_frame
from bilstm.labels import Labels, as_classes
from bilstm.layers import ColumnEmbedding, Dense, Dropout, Layer
from bilstm.loop import Progress, TrainingInterrupted, batches_by_length, train_model
from bilstm.models import Sequential
from bilstm.optimizers import Adam
from bilstm.ragged import FloatArray, IndexArray
from bilstm.splitting import hold_out
from bilstm.steps import StepEncoder, Steps, read_steps
from bilstm.training import TrainingOptions, embedding_dimension, recurrent

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


class SequenceEstimator(BaseEstimator):
    """What both estimators do alike. They differ in what has a label, a step or a sequence."""

    _one_row_each: ClassVar[bool]
    sequence: str | None
    order: str | None

    # --- Training ------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train a new model.

        Args:
            X: n sequences; see the class.
            y: their labels; see the class.
            groups: (n,) which sequences belong together, such as one patient's: all of a group are held out, or none.
                Of a table, a column's name, or for each row.

        Raises:
            ValueError: a parameter is impossible, or X, y and groups do not fit together.
            DivergedError: the loss is not finite in the first epoch.
            TrainingInterrupted: Ctrl-C after the first epoch, a KeyboardInterrupt; the estimator then has the best
                weights until then.
        """
        seed = self._new_seed()
        steps, labels, groups = self._read(X, y, groups)
        options = self._options(seed, len(steps) if groups is None else None)
        classes = labels.classes()
        codes = labels.codes(classes)
        training, held_out = self._divide(steps, codes, groups, options)
        self._start(steps.take(training), classes, options)
        data = self.encoder_.encode(steps)
        targets = Targets(labels=codes, weights=self._row_weights(codes, self._rows_of(steps, training)))
        try:
            self.training_ = train_model(
                self.model_,
                FitData(data, targets, training),
                FitData(data, targets, held_out) if len(held_out) else None,
                options,
                progress=self._progress(),
            )
        except TrainingInterrupted as interrupt:
            self.training_ = interrupt.summary
            raise
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train on these sequences once, from the weights reached; nothing is held out, nor is patience needed.

        The learning rate is `learning_rate` throughout, a batch has `batch_size` sequences or 32. Means, scales and
        vocabulary are those of the first call, or of `fit`.

        Args:
            X, y: as for `fit`.
            classes: all that there are; needed in the first call unless `fit` came before.

        Raises:
            ValueError: as for `fit`; classes are missing, or others than before.
            DivergedError: the loss is not finite.
        """
        known = hasattr(self, "model_")
        steps, labels, _ = self._read(X, y, known=known)
        options = self._options(0)
        if not known:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            found = as_classes(classes)
            codes = labels.known_codes(found)
            self._start(steps, found, self._options(self._new_seed()))
        else:
            if classes is not None and not np.array_equal(as_classes(classes), self.classes_):
                raise ValueError(f"classes={classes!r} are not those of before: {self.classes_!r}")
            codes = labels.known_codes(self.classes_)
        weights = self._row_weights(codes, np.arange(len(codes)))
        data = FitData.all_of(self.encoder_.encode(steps), Targets(labels=codes, weights=weights))
        assert self.model_.optimizer is not None
        self.model_.optimizer.learning_rate = options.learning_rate
        for batch in batches_by_length(data.data.lengths, options.batch_size or 32, self.model_.random):
            scores = self.model_.train_batches(data, batch, np.array([0, len(batch)], np.int64))
            if not np.isfinite(scores[0, 0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller learning_rate")
        return self

    def _start(self, steps: Steps, classes: npt.NDArray[Any], options: TrainingOptions) -> None:
        """Become an untrained estimator for sequences like these."""
        self.encoder_ = StepEncoder.fit(steps, standardize=self.standardize, spelling=self.spelling)
        self.classes_ = classes
        self.n_features_in_ = len(steps.columns)
        if steps.rows is not None:
            self.feature_names_in_ = np.array([*steps.columns], object)
        elif hasattr(self, "feature_names_in_"):  # of an earlier fit
            del self.feature_names_in_
        if self.verbose and steps.rows is not None:
            for name, found in describe_columns(self.encoder_.columns):
                print(f"{name}: {found}")
        self.model_ = self._build(options)

    def _new_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _options(self, seed: int, sequences: int | None = None) -> TrainingOptions:
        """The parameters, checked; for so many sequences, if they may be held out one by one."""
        options = TrainingOptions(
            units=self.units,
            layers=self.layers,
            merge_mode=self.merge_mode,
            direction=self.direction,
            dropout=self.dropout,
            embedding=self.embedding,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            patience=self.patience,
            validation_split=self._share(sequences),
            seed=seed,
        )
        for name in ("standardize", "verbose"):
            check_choice(type(self).__name__, name, getattr(self, name), (True, False))
        check_choice(type(self).__name__, "spelling", self.spelling, (None, True, False))
        return options

    def _share(self, sequences: int | None) -> float:
        """How many to hold out."""
        share: float = self.validation_split
        return share

    def _divide(
        self, steps: Steps, codes: npt.NDArray[np.int32], groups: Any, options: TrainingOptions
    ) -> tuple[IndexArray, IndexArray]:
        """The sequences to train on and those held out: of the latter each has a label."""
        count = len(steps)
        if groups is not None and np.shape(groups) != (count,):
            raise ValueError(f"groups has shape {np.shape(groups)}, but X has {count} sequences")
        labelled = codes >= 0 if self._one_row_each else np.maximum.reduceat(codes, steps.offsets[:-1]) >= 0
        classes = codes if self._one_row_each else None
        return hold_out(labelled, options.validation_split, seed=options.seed, groups=groups, classes=classes)

    def _row_weights(self, codes: npt.NDArray[np.int32], rows: IndexArray) -> FloatArray | None:
        """(rows,) the weight of each row's class; "balanced" by the rows given."""
        weight = self.class_weight
        if weight is None:
            return None
        if isinstance(weight, Mapping):
            names = self.classes_.tolist()
            unknown = [label for label in weight if label not in names]
            if unknown:
                raise ValueError(
                    f"class_weight has {unknown[0]!r}, which is none of the classes {listed(map(str, names))}"
                )
            weights = np.array([weight.get(name, 1.0) for name in names], np.float32)
            if not (np.isfinite(weights).all() and (weights >= 0).all()):
                raise ValueError(f"class_weight must be finite numbers from 0, not {dict(weight)}")
        elif isinstance(weight, str) and weight == "balanced":
            counts = np.bincount(codes[rows][codes[rows] >= 0], minlength=len(self.classes_))
            weights = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
        else:
            raise ValueError(f"class_weight must be None, 'balanced' or a dictionary of classes, not {weight!r}")
        return np.where(codes >= 0, weights[codes], np.float32(0))

    def _progress(self) -> Progress | None:
        if not self.verbose:
            return None

        def line(event: dict[str, Any]) -> None:
            if event["done"] == 1.0:
                scores = (f"{name} {event[name]:.4f}" for name in ("loss", "val_loss", "val_accuracy") if name in event)
                print(f"Epoch {event['epoch']}/{event['epochs']}: {', '.join(scores)}")

        return line

    # --- The network ---------------------------------------------------------------------------------------------

    def _build(self, options: TrainingOptions) -> Sequential:
        encoder, layers = self.encoder_, list[Layer]()
        if encoder.vocabularies:
            dimensions = [options.embedding or embedding_dimension(size) for size in encoder.vocabularies]
            layers += [ColumnEmbedding(encoder.numeric_width, encoder.vocabularies, dimensions)]
            layers += [Dropout(options.dropout)]
        for _ in range(options.layers - 1):
            layers += [*recurrent(options), Dropout(options.dropout)]
        layers += [*self._last_layers(options), Dropout(options.dropout), Dense(len(self.classes_), "softmax")]
        model = Sequential(layers, seed=options.seed)
        model.build((None, encoder.numeric_width + len(encoder.vocabularies)))
        # By accuracy, an epoch that forgets the rare classes could be the best.
        metrics = ["accuracy"] if self.class_weight is None else []
        model.compile(Adam(options.learning_rate, global_clipnorm=1.0), "sparse_categorical_crossentropy", metrics)
        return model

    def _last_layers(self, options: TrainingOptions) -> list[Layer]:
        """The last recurrent layer, and what follows it before the classes."""
        raise NotImplementedError

    # --- Reading -------------------------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, groups: Any = None, *, known: bool = False) -> tuple[Steps, Labels, Any]:
        """Sequences with their labels, and the group of each sequence if any.

        Args:
            known: whether they have to be like those of the fit.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if not is_frame(X):
            steps = self._read_known(X) if known else self._read_sequences(X)
            return steps, self._labels_of(y, steps), groups
        frame = Frame(X, self.sequence, self.order)
        steps = self._read_known(frame) if known else frame.steps(frame.features(y=y, groups=groups))
        labels = self._labels_of((frame.by_sequence if self._one_row_each else frame.by_step)(y, "y"), steps)
        return steps, labels, None if groups is None else frame.by_sequence(groups, "groups")

    def _read_known(self, X: Any) -> Steps:
        """Sequences like those of the fit."""
        names = getattr(self, "feature_names_in_", None)
        if is_frame(X):
            X = Frame(X, self.sequence, self.order)
        if isinstance(X, Frame):
            if names is None:
                raise ValueError(f"X is a table, but {type(self).__name__} was fitted to what is none")
            return X.steps(names)
        steps = self._read_sequences(X)
        if names is not None:
            raise ValueError(f"X is no table, but {type(self).__name__} was fitted to one")
        if len(steps.columns) != self.n_features_in_:
            raise ValueError(
                f"X has {len(steps.columns)} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                f"features as input"
            )
        return steps

    def _read_sequences(self, X: Any) -> Steps:
        for name in ("sequence", "order"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)!r} names a column of a table, but X is no table")
        return read_steps(X)

    def _labels_of(self, y: Any, steps: Steps) -> Labels:
        raise NotImplementedError

    def _rows_of(self, steps: Steps, sequences: IndexArray) -> IndexArray:
        raise NotImplementedError

    # --- Prediction ----------------------------------------------------------------------------------------------

    def _read_fitted(self, X: Any) -> Steps:
        """Sequences like those of the fit.

        Raises:
            NotFittedError: there was none.
        """
        check_is_fitted(self)
        return self._read_known(X)

    def _probabilities(self, steps: Steps) -> FloatArray:
        """(rows, n_classes)"""
        encoded = self.encoder_.encode(steps)
        if steps.rows is not None:
            for note in self.encoder_.notes(encoded):
                warnings.warn(f"column {note}", stacklevel=3)
        return self.model_.predict_rows(encoded)

    # --- scikit-learn's ------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | {"model_": _frozen(self.model_)} if "model_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self.model_ = _thawed(state["model_"])


_ARRAYS = ("weights", "first_moments", "second_moments")


def _frozen(model: Sequential) -> dict[str, Any]:
    """All that it takes to make the same model, and to train it on, without the engine's own memory."""
    assert model.network is not None
    arrays = {name: model.network.read(name) for name in _ARRAYS}
    plain = {"config": model.get_config(), "seed": model.seed, "random": model.random}
    return plain | {"arrays": arrays, "iteration": model.network.iteration}


def _thawed(state: dict[str, Any]) -> Sequential:
    model = Sequential.from_config(state["config"], seed=state["seed"], draw=False)
    assert model.network is not None
    for name in _ARRAYS:
        model.network.write(state["arrays"][name], name)
    model.network.iteration = state["iteration"]
    model.random = state["random"]
    return model
