"""What the estimators have in common: fitting, the network, and scikit-learn's protocol."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

try:
    from sklearn.base import BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.base import RegressorMixin as RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted as check_is_fitted
    from sklearn.utils.validation import column_or_1d as column_or_1d
except ImportError as error:
    raise ImportError("bilstm's estimators need scikit-learn 1.6 or later: pip install 'bilstm[sklearn]'") from error

from bilstm.arguments import check_choice
from bilstm.data.features import describe_columns
from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError
from bilstm.inputs.frames import Frame, is_frame
from bilstm.inputs.labels import Indicators, Labels, as_classes
from bilstm.inputs.steps import StepEncoder, Steps, read_steps
from bilstm.layers import ColumnEmbedding, Dense, Layer
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.ragged import FloatArray, IndexArray, Ragged, steps_of
from bilstm.splitting import hold_out, share_to_hold_out
from bilstm.training.classweights import ClassWeight as ClassWeight
from bilstm.training.loop import Progress, TrainingInterrupted, batches_by_length, train_model
from bilstm.training.network import depth, dropout, embedding_dimension, optimizer, recurrent
from bilstm.training.options import TrainingOptions


class Learnt(Protocol):
    """What is known of rows: see `Labels`, `Indicators` and `Quantities`."""

    @property
    def labelled(self) -> npt.NDArray[np.bool_]: ...


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layer, and how it is judged."""

    units: int
    activation: str
    loss: str
    metrics: tuple[str, ...] = ()


class SequenceEstimator(BaseEstimator):
    """What all estimators do alike. They differ in what is learnt, a label or a quantity, and of what, a step or a
    sequence.
    """

    _one_row_each: ClassVar[bool] = False
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
        training, held_out = self._divide(steps, labels, groups, options)
        targets = self._learn(labels, self._rows_of(steps, training))
        self._start(steps.take(training), options)
        data = self.encoder_.encode(steps)
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

    def _train_once(self, steps: Steps, targets: Targets) -> Self:
        """What `partial_fit` does with sequences and what is to be learnt of them."""
        options = self._options(0)
        data = FitData.all_of(self.encoder_.encode(steps), targets)
        self.model_.optimizer = optimizer(options)  # its moments are the network's
        for batch in batches_by_length(data.data.lengths, options.batch_size or 32, self.model_.random):
            scores = self.model_.train_batches(data, batch, np.array([0, len(batch)], np.int64))
            if not np.isfinite(scores[0, 0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller learning_rate")
        return self

    def _start(self, steps: Steps, options: TrainingOptions) -> None:
        """Become an untrained estimator for sequences like these."""
        self.encoder_ = StepEncoder.fit(steps, standardize=self.standardize, spelling=self.spelling)
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
            variational_dropout=self.variational_dropout,
            embedding=self.embedding,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
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
        return share_to_hold_out(self.validation_split, sequences or 0)

    def _divide(
        self, steps: Steps, labels: Learnt, groups: Any, options: TrainingOptions
    ) -> tuple[IndexArray, IndexArray]:
        """The sequences to train on and those held out: of the latter each has a label."""
        count = len(steps)
        if groups is not None and np.shape(groups) != (count,):
            raise ValueError(f"groups has shape {np.shape(groups)}, but X has {count} sequences")
        labelled, classes = labels.labelled, None
        if not self._one_row_each:
            labelled = np.logical_or.reduceat(labelled, steps.offsets[:-1])
        elif isinstance(labels, Labels):
            classes = labels.codes(labels.classes())
        return hold_out(labelled, options.validation_split or 0.0, seed=options.seed, groups=groups, classes=classes)

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
            layers += [dropout(options)]
        for _ in range(depth(options, encoder.numeric_width) - 1):
            layers += [*recurrent(options), dropout(options)]
        layers += [*self._last_layers(options), dropout(options, sequences=not self._one_row_each)]
        head = self._head()
        layers.append(Dense(head.units, head.activation))
        model = Sequential(layers, seed=options.seed)
        model.build((None, encoder.numeric_width + len(encoder.vocabularies)))
        model.compile(optimizer(options), head.loss, head.metrics)
        return model

    def _last_layers(self, options: TrainingOptions) -> list[Layer]:
        """The last recurrent layer, and what follows it before the last of all."""
        return recurrent(options)

    def _learn(self, labels: Any, counted: IndexArray) -> Targets:
        """What is to be learnt; keeps what predictions need to know of it.

        Args:
            counted: the rows to train on.
        """
        raise NotImplementedError

    def _head(self) -> Head:
        raise NotImplementedError

    # --- Reading -------------------------------------------------------------------------------------------------

    def _read(self, X: Any, y: Any, groups: Any = None, *, known: bool = False) -> tuple[Steps, Any, Any]:
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

    def _labels_of(self, y: Any, steps: Steps) -> Learnt:
        raise NotImplementedError

    def _rows_of(self, steps: Steps, sequences: IndexArray) -> IndexArray:
        return sequences if self._one_row_each else steps_of(steps.offsets, sequences)

    # --- Prediction ----------------------------------------------------------------------------------------------

    def _read_fitted(self, X: Any) -> Steps:
        """Sequences like those of the fit.

        Raises:
            NotFittedError: there was none.
        """
        check_is_fitted(self)
        return self._read_known(X)

    def _outputs(self, steps: Steps) -> FloatArray:
        """(rows, outputs) of the network."""
        encoded = self.encoder_.encode(steps)
        if steps.rows is not None:
            for note in self.encoder_.notes(encoded):
                warnings.warn(f"column {note}", stacklevel=3)
        return self.model_.predict_rows(encoded)

    def _divided(self, rows: npt.NDArray[Any], steps: Steps, X: Any) -> Any:
        """What is predicted of all steps, in the form of X."""
        if steps.rows is not None:
            return steps.in_rows(rows)
        if steps.array:
            return rows.reshape(len(steps), -1, *rows.shape[1:])
        parts = np.split(rows, steps.offsets[1:-1])
        if isinstance(X, (list, tuple, Ragged)):
            return parts
        objects = np.empty(len(parts), object)
        objects[:] = parts
        return objects

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


class LabelEstimator(SequenceEstimator):
    """What learns labels."""

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
        self._options(0)  # which checks the parameters
        if not known:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            found = as_classes(classes)
            targets = self._know(labels, found)
            self._start(steps, self._options(self._new_seed()))
        else:
            if classes is not None and not np.array_equal(as_classes(classes), self.classes_):
                raise ValueError(f"classes={classes!r} are not those of before: {self.classes_!r}")
            self._check_kind(labels)
            targets = labels.targets(self.classes_, self.class_weight)
        return self._train_once(steps, targets)

    def _learn(self, labels: Labels | Indicators, counted: IndexArray) -> Targets:
        return self._know(labels, labels.classes(), counted)

    def _know(
        self, labels: Labels | Indicators, classes: npt.NDArray[Any], counted: IndexArray | None = None
    ) -> Targets:
        targets = labels.targets(classes, self.class_weight, counted)
        self.classes_ = classes
        self.multilabel_ = isinstance(labels, Indicators)
        return targets

    def _check_kind(self, labels: Labels | Indicators) -> None:
        """Whether rows have one label each or several has to be as it was in the fit."""
        if isinstance(labels, Indicators) != self.multilabel_:
            had, has = ("several labels", "one") if self.multilabel_ else ("one label", "several")
            raise ValueError(f"y has {has} a step, but {type(self).__name__} was fitted to {had}")

    def _head(self) -> Head:
        if self.multilabel_:
            return Head(len(self.classes_), "sigmoid", "binary_crossentropy")
        # By accuracy, an epoch that forgets the rare classes could be the best.
        metrics = ("accuracy",) if self.class_weight is None else ()
        return Head(len(self.classes_), "softmax", "sparse_categorical_crossentropy", metrics)
