"""What the estimators have in common: scikit-learn's protocol over the trained model."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

try:
    from sklearn.base import BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.base import RegressorMixin as RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted as check_is_fitted
except ImportError as error:
    raise ImportError("bilstm's estimators need scikit-learn 1.6 or later: pip install 'bilstm[sklearn]'") from error

from bilstm.arguments import check_choice
from bilstm.data.dataset import Dataset
from bilstm.data.memory import MemoryTable
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sources import open_for
from bilstm.data.table import Table
from bilstm.data.wordvectors import VectorFiles as VectorFiles
from bilstm.errors import DivergedError, UserError, counted, listed
from bilstm.estimators.reading import Reader
from bilstm.files import AnyPath
from bilstm.model.datasets import read_dataset
from bilstm.model.live import ModelStream
from bilstm.model.network import build_network, optimizer
from bilstm.model.prepare import prepare
from bilstm.model.tagging import check_learnable, choose_output, learned_by
from bilstm.model.trained import TrainedModel
from bilstm.model.training import ModelInterrupted, check_workers, train_prepared
from bilstm.tasks import LabelTask
from bilstm.tasks.classweights import ClassWeight as ClassWeight
from bilstm.training.options import TrainingOptions
from bilstm.training.planning import batches_by_length
from bilstm.training.windows import WindowSource, find_windows
from bilstm.wording import sets


class SequenceEstimator(BaseEstimator):
    """What all estimators do alike; they differ in the task, and its unit, a step or a sequence.

    X is a list of (steps, features) arrays of any lengths, a (n, steps, features) array, a `Ragged`, or a list of lists
    of strings, one per step; (steps,) arrays and a (n, steps) array have one feature. A missing value, NaN, is imputed
    with the mean, and flagged for the network if training had any.

    X may also be a table with a row for each time step: a data frame of pandas, Polars or PyArrow, or a file, whose
    column `sequence` identifies the sequences. Its other columns are the features: numbers and booleans, and strings
    and categories, which are embedded. Then y and groups have an entry for each row, or are the names of columns, which
    then are no features; y and groups of sequences may have an entry for each sequence, too.

    Args:
        units: of each recurrent layer, in each direction.
        layers: number of recurrent layers; None: 3 for labels of steps that are strings, otherwise 2.
        merge_mode: how the directions' outputs are merged: "concat", "sum", "mul" or "ave".
        direction: "both", or only "forward" or "backward"; "none" puts a dense layer in each recurrent one's place:
            what remains without context.
        cell: the kind of recurrent layers: "lstm", "gru" or "simple"; see `LSTM`, `GRU` and `SimpleRNN`.
        pooling: for one answer per sequence, how its steps become one row: "mean" (the default) or "max" of the last
            layer's outputs; "last": what each direction has computed when it has read the whole sequence; "attention":
            a mean whose weights are learned, see `GlobalAttentionPooling1D`.
        conv: convolutions in front of the recurrent layers, as filters x kernel size: "64x5", or several, "64x5+64x3";
            see `TrainingOptions`. None: without.
        characters: how the characters of strings become a part of a step: "lstm", by a bidirectional LSTM over each
            string, "conv", by a convolution and its maximum, or "none". None: "conv" if they look like words.
        unknown_words: share of strings that training treats as unknown, besides those below the frequency threshold.
        freeze_vectors: whether training leaves the word vectors of `vectors` as they are.
        output: for one label for each step: "softmax" predicts each step on its own, "crf" the labels of a sequence
            together, with scores for each transition; "constrained" is trained as "softmax", and predicts the likeliest
            labels that the scheme allows; None: "crf" for tags of a scheme such as B-X and I-X, otherwise "softmax".
            See `TrainingOptions`.
        scheme: with output "crf" or "constrained", the scheme of labels such as B-X and I-X, whose forbidden
            transitions are never predicted, such as "IOB2" or "IOBES"; "none": all are allowed. None: detected.
        train_scheme: the scheme of the tags that are learned instead of labels such as B-X and I-X, such as "IOBES";
            predictions are tags of their scheme. None: the labels are learned as they are.
        dropout: share of values dropped after each recurrent layer and after the embedding.
        variational_dropout: whether a sequence loses the same values at all of its steps, rather than others at each.
        embedding: dimensions of a string's embedding; None chooses by the number of different strings. Strings that
            occur once in training count as unknown, as new ones do later.
        epochs: passes over the training sequences; None chooses by their number of steps.
        batch_size: sequences (or windows of long ones) in a training step; None chooses by their length.
        learning_rate: the highest reached; it rises at first and falls to zero at the end.
        weight_decay: the share of each weight, times the learning rate, that a training step takes away (AdamW).
        class_weight: class -> weight of its rows' losses, 1 where it is not named; "balanced": inverse to its number of
            rows. The weighted loss on the validation set then decides which epoch is the best. For one label at a time
            only.
        calibrate: whether probabilities are scaled by a temperature found on the validation set; None: if that is
            large enough. The likeliest label does not change.
        patience: epochs without a better validation score after which training stops: of labels of time steps, the
            accuracy; otherwise the loss.
        time_limit: seconds after which training stops with the best model until then.
        window: for answers for each step: the steps of the windows that are trained on. A table without `sequence` is
            then one long recording, and where there are too few sequences to set whole ones aside for validation,
            blocks of time are, at least a window away from what is trained on. Prediction is of whole sequences. None:
            longer sequences are cut into windows of up to 300 steps, at other places in each epoch.
        stride: steps from the beginning of a window to that of the next, at most `window`; None: `window`.
        validation_split: the share of sequences, or of groups, for the validation set; None: a tenth, but at most 1,000
            sequences, and none of fewer than 500 sequences with one answer each.
        standardize: whether features are scaled to mean 0 and standard deviation 1, those of the training part.
        spelling: whether the first and last letters and the shape of strings count besides the whole, so that unknown
            ones differ; None: where they look like words.
        vectors: a file of pretrained word vectors for the feature that is strings, or feature -> file; see
            `bilstm.train`. None: without.
        all_vectors: whether all its words are kept, rather than those of the training part.
        soft_targets: the labels, in their order, of whose probabilities y has a column each: y is an array of
            (steps, labels) for each sequence, (n, labels) with one label per sequence, or names of columns. Training
            aims at these, such as the answers of a larger model; rows of NaN are unlabelled. None: y has labels.
        label_separator: what is between labels of y that name several, such as "|" in "A|B": one of them is right, and
            which one is not known. For output "crf".
        missing_label: what stands for "unlabelled" in y besides None and NaN, such as -1.
        sequence: of a table, the column whose value all rows of one sequence share.
        order: of a table, the column by which a sequence's rows are sorted: numbers, dates or times. None: they are in
            order.
        reading: of a table, how it is read, such as {"delimiter": ";", "decimal": ","}: `bilstm.ReadingOptions`, or a
            dictionary of some. The model reads others alike. Of a table in memory only `missing`, `time_format` and
            `one_day` have an effect.
        baseline: whether to train the network without recurrence as well, for comparison.
        workers: processes on this machine that train together; the model is the same for any number, see
            `bilstm.train`. In a search that has processes of its own, leave it 1.
        examples: whether the model keeps a few sequences of the validation set, raw values and labels: see
            `bilstm.train`.
        random_state: an integer gives the same model for the same data, bit for bit; see scikit-learn's glossary.
        verbose: None: a progress bar on standard error if it is a terminal and tqdm is installed; True: how features
            are encoded and a line for each epoch, on standard output; False: nothing.

    Attributes:
        model_: the `bilstm.TrainedModel`.
        training_: how training went, plain data: "epochs", "best_epoch", "stopped", "history", "validation_sequences" …
        n_features_in_: features of a step; 1 for strings.
        feature_names_in_: of a table, the columns that are features; other columns are ignored in prediction.
    """

    _what: ClassVar[str] = "label"  # what is predicted: "label" or "quantity"
    _unit: ClassVar[str] = "step"

    model_: TrainedModel

    def __init__(
        self,
        *,
        units: int = 128,
        layers: int | None = None,
        merge_mode: str = "concat",
        direction: str = "both",
        cell: str = "lstm",
        pooling: str | None = None,
        conv: str | None = None,
        characters: str | None = None,
        unknown_words: float = 0.0,
        freeze_vectors: bool = False,
        output: str | None = None,
        scheme: str | None = None,
        train_scheme: str | None = None,
        dropout: float = 0.3,
        variational_dropout: bool = False,
        embedding: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.004,
        weight_decay: float = 0.0,
        class_weight: ClassWeight = None,
        calibrate: bool | None = None,
        patience: int = 10,
        time_limit: float | None = None,
        window: int | None = None,
        stride: int | None = None,
        validation_split: float | None = None,
        standardize: bool = True,
        spelling: bool | None = None,
        vectors: VectorFiles | None = None,
        all_vectors: bool = False,
        soft_targets: Sequence[Any] | None = None,
        label_separator: str | None = None,
        missing_label: Any = None,
        sequence: str | None = None,
        order: str | None = None,
        reading: ReadingOptions | Mapping[str, Any] | None = None,
        baseline: bool = False,
        workers: int = 1,
        examples: bool = False,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        self.units = units
        self.layers = layers
        self.merge_mode = merge_mode
        self.direction = direction
        self.cell = cell
        self.pooling = pooling
        self.conv = conv
        self.characters = characters
        self.unknown_words = unknown_words
        self.freeze_vectors = freeze_vectors
        self.output = output
        self.scheme = scheme
        self.train_scheme = train_scheme
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.embedding = embedding
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.patience = patience
        self.time_limit = time_limit
        self.window = window
        self.stride = stride
        self.validation_split = validation_split
        self.standardize = standardize
        self.spelling = spelling
        self.vectors = vectors
        self.all_vectors = all_vectors
        self.soft_targets = soft_targets
        self.label_separator = label_separator
        self.missing_label = missing_label
        self.sequence = sequence
        self.order = order
        self.reading = reading
        self.baseline = baseline
        self.workers = workers
        self.examples = examples
        self.random_state = random_state
        self.verbose = verbose

    # --- Training ------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, groups: Any = None, *, validation_data: tuple[Any, Any] | None = None) -> Self:
        """Train a new model.

        Args:
            X: n sequences; see the class.
            y: their labels or quantities; see the class.
            groups: (n,) which sequences belong together, such as one patient's: the validation set takes all of a
                group or none. Of a table, a column's name, or an entry for each row.
            validation_data: (X, y) to validate on, instead of a part of X.

        Raises:
            ValueError: a parameter is impossible, or X, y and groups do not fit together.
            DivergedError: the loss is not finite in the first epoch.
            ModelInterrupted: Ctrl-C after the first epoch, a KeyboardInterrupt; the estimator then has the best
                weights until then.
        """
        options = self._options(self._seed())
        table, columns = self._reader.open(X, y, groups)
        valid = None
        if validation_data is not None:
            if len(validation_data) != 2:
                raise ValueError("validation_data is (X, y)")
            valid, others = self._reader.open(*validation_data, None)
            if (others.label, others.soft_targets) != (columns.label, columns.soft_targets):
                raise ValueError(f"the labels of validation_data are called {others.label}, those of y {columns.label}")
        split = options.validation_split
        columns = dataclasses.replace(columns, **self._feature_options())
        prepared = prepare(
            table,
            columns,
            valid=valid,
            validation_split=split,
            window=options.window,
            characters=options.characters,
            seed=options.seed,
        )
        if self.verbose:
            for name, encoding in prepared.schema.describe() if prepared.schema.named else ():
                print(f"{name}: {encoding}")
            if options.window:
                print(*sets(prepared, options), sep="\n")
            output = choose_output(prepared, options)
            for note in filter(None, (*prepared.notes, output.description, output.note)):
                print(note)
        try:
            model = train_prepared(
                prepared,
                options,
                baseline=self.baseline,
                examples=self.examples,
                verbose=self.verbose,
                workers=self.workers,
            )
        except ModelInterrupted as interrupt:
            self._become(interrupt.model, table)
            raise
        return self._become(model, table)

    def _become(self, model: TrainedModel, table: Table) -> Self:
        self.model_ = model
        self.training_ = model.training
        self.n_features_in_ = len(model.schema.features)
        if model.schema.named:
            self.feature_names_in_ = np.array(model.schema.features, object)
        elif hasattr(self, "feature_names_in_"):  # of an earlier fit
            del self.feature_names_in_
        if model.task.what != "quantity":
            self.multilabel_ = model.task.what == "labels"
            self.classes_ = self._classes(model)
        self._trained_on = _sequence_names(model, table)
        return self

    def _train_once(self, X: Any, y: Any, classes: Any = None) -> Self:
        """What `partial_fit` does."""
        for name in ("soft_targets", "label_separator"):
            if getattr(self, name, None) is not None:
                raise ValueError(f"{name} is for fit: partial_fit learns from one label at a time")
        options = self._options(0)
        trained: Any = self.model_.task if hasattr(self, "model_") else options
        if getattr(trained, "output", "") == "constrained":
            raise ValueError(
                "partial_fit is for outputs 'softmax' and 'crf': with 'constrained', the trained network is another "
                "than the one that predicts"
            )
        if not hasattr(self, "model_"):
            options = self._options(self._seed())
            table, columns = self._reader.open(X, y, None, classes=classes)
            columns = dataclasses.replace(columns, **self._feature_options())
            prepared = prepare(
                table,
                columns,
                validation_split=0.0,
                window=options.window,
                characters=options.characters,
                seed=options.seed,
            )
            output = choose_output(prepared, options)
            learned, options = output.learned, output.options
            network = build_network(learned.schema, learned.task, options, output.forbidden, learned.vectors)
            self._become(TrainedModel(learned.schema, output.task, network, {}), table)
            task, data = learned.task, learned.training
        else:
            data = self._labelled(X, y)
            self._check_unseen(data)
            task, data = learned_by(self.model_.task, data)
            check_learnable(self.model_, task, data)
        network = self.model_.network
        targets = task.targets(data.known, options.class_weight, data.known)
        network.optimizer = optimizer(options)  # its moments are the network's
        whole = data.values.offsets[:-1], data.values.offsets[1:]
        ranges = find_windows(data.values.offsets, options.window, options.stride) if options.window else whole
        source = WindowSource(data.values, targets, ranges)
        for batch in batches_by_length(source.lengths, options.batch_size or 32, network.random):
            fit_data = source.batch(batch)
            scores = network.train_batches(fit_data, fit_data.chosen, np.array([0, len(batch)], np.int64))
            if not np.isfinite(scores[0, 0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller learning_rate")
        return self

    def _check_unseen(self, data: Dataset) -> None:
        for label in data.unseen:
            raise ValueError(
                f"y has the label {label!r}, which is none of the classes {listed(map(str, self.classes_))}"
            )

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)) and not isinstance(self.random_state, bool):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _options(self, seed: int) -> TrainingOptions:
        """The parameters, checked."""
        names = TrainingOptions.__dataclass_fields__.keys() & self.get_params(deep=False).keys()
        options = TrainingOptions(**{name: getattr(self, name) for name in names}, seed=seed)
        for name in ("standardize", "baseline", "examples", "all_vectors"):
            check_choice(type(self).__name__, name, getattr(self, name), (True, False))
        check_workers(self.workers)
        for name in ("spelling", "verbose"):
            check_choice(type(self).__name__, name, getattr(self, name), (None, True, False))
        return options

    def _feature_options(self) -> dict[str, Any]:
        """The parameters that say how features are encoded."""
        return {name: getattr(self, name) for name in ("spelling", "standardize", "vectors", "all_vectors")}

    # --- Reading -------------------------------------------------------------------------------------------------

    @property
    def _reader(self) -> Reader:
        columns = (self.sequence, self.order, self.missing_label, self.reading)
        targets = (getattr(self, "soft_targets", None), getattr(self, "label_separator", None))  # of labels only
        return Reader(type(self).__name__, self._unit, self._what, *columns, *targets)

    def _labelled(self, X: Any, y: Any) -> Dataset:
        """Sequences like those of the fit, with their true answers.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self, "model_")
        table = self._open_known(X)
        table, labels = self._reader.with_targets(table, y)
        columns = self.model_.task.columns
        if len(labels) != len(columns):
            raise ValueError(
                f"y has {counted(len(labels), self._what)} a {self._unit}, but {type(self).__name__} was fitted on "
                f"{len(columns)}"
            )
        model = self.model_.adapted(label=labels)
        return read_dataset(model.schema, model.task, table, most_unseen=1.0)

    def _open_known(self, X: Any) -> Table:
        table = X if isinstance(X, Table) else open_for(self.model_.schema, X)
        self._warn_of_rows(table)
        return table

    def _warn_of_rows(self, table: Table) -> None:
        """Warn where sequences of the training data come again with other rows: whoever cut them apart learns nothing
        of new sequences from the score.
        """
        if not self._trained_on or not isinstance(table, MemoryTable) or table.offsets is not None:
            return
        lengths = _sequence_names(self.model_, table)
        cut = [name for name, rows in lengths.items() if self._trained_on.get(name, rows) != rows]
        if cut:
            warnings.warn(
                f"sequence {cut[0]!r} of X was in the training data with other rows: sequences were cut apart; divide "
                f"tables between sequences, such as with GroupKFold and groups=X[{self.sequence!r}]",
                stacklevel=4,
            )

    # --- Prediction ----------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """What is predicted, in the form of X: see `TrainedModel.predict`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        check_is_fitted(self, "model_")
        return self.model_.predict(self._open_known(X))

    def stream(self, *, look_ahead: int | Literal["all"], block: int = 1) -> ModelStream:
        """For sequences that have not ended: see `TrainedModel.stream`.

        Raises:
            NotFittedError: before `fit`.
            UserError: the model cannot work with bounded look-ahead.
        """
        check_is_fitted(self, "model_")
        return self.model_.stream(look_ahead=look_ahead, block=block)

    def report(self, path: AnyPath, X: Any, y: Any) -> dict[str, Any]:
        """Write a page about the model's performance on sequences X with true answers y: see `bilstm.report`."""
        from bilstm.report import write_report

        check_is_fitted(self, "model_")
        table, labels = self._reader.with_targets(self._open_known(X), y)
        return write_report(path, self.model_.adapted(label=labels), table)

    # --- Files and scikit-learn ----------------------------------------------------------------------------------

    def save(self, path: AnyPath, *, force: bool = False) -> None:
        """Write the trained model to one file, which `bilstm evaluate`, `predict` and `inspect` read, too.

        Args:
            force: whether to replace a file that bilstm did not write.

        Raises:
            NotFittedError: before `fit`.
            UserError: the file cannot be written.
        """
        check_is_fitted(self, "model_")
        self.model_.save(path, force=force)

    @classmethod
    def load(cls, path: AnyPath) -> Self:
        """A fitted estimator with the model of a file that `save` or `bilstm train` wrote, and its parameters.

        Raises:
            ModelFileError: the file is not a trained model.
            UserError: the model is for another task than this estimator's.
        """
        model = TrainedModel.load(path)
        if (model.task.unit != cls._unit and cls._what == "label") or (model.task.what == "quantity") != (
            cls._what == "quantity"
        ):
            labels = "SequenceTagger" if model.task.unit == "step" else "SequenceClassifier"
            right = "SequenceRegressor" if model.task.what == "quantity" else labels
            raise UserError(
                f"{path} holds a model for the task {model.task.kind}, which is {right}'s: use {right}.load"
            )
        known = cls._get_param_names()
        options = {name: value for name, value in model.training["options"].items() if name in known}
        return cls(**options | cls._loaded_parameters(model))._become(model, MemoryTable({}, rows=1))

    @classmethod
    def _loaded_parameters(cls, model: TrainedModel) -> dict[str, Any]:
        seed = model.training["options"].get("seed")
        reading = model.schema.reading
        columns: dict[str, Any] = {"sequence": model.schema.sequence, "order": model.schema.order}
        columns["reading"] = reading if reading.said else None
        if isinstance(model.task, LabelTask):
            columns["label_separator"] = model.task.separator
        # A model does not say which file its word vectors are from.
        return columns | {
            "baseline": model.baseline is not None,
            "examples": bool(model.training.get("examples")),
            "random_state": seed,
            "freeze_vectors": False,
        }

    def _classes(self, model: TrainedModel) -> npt.NDArray[Any]:
        if isinstance(model.task, LabelTask):
            return model.task.labels
        names = model.task.columns
        return np.arange(len(names)) if names[0].startswith("label ") else np.array(names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags


class LabelEstimator(SequenceEstimator):
    """What learns labels."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train on these sequences once, from the weights reached, without validation or patience.

        The learning rate is `learning_rate` throughout, a batch has `batch_size` sequences or 32. Means, scales and
        vocabulary are those of the first call, or of `fit`.

        Args:
            X, y: as for `fit`.
            classes: all that there are; needed in the first call unless `fit` came before.

        Raises:
            ValueError: as for `fit`; classes are missing, or others than before.
            DivergedError: the loss is not finite.
        """
        if not hasattr(self, "model_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known = hasattr(self, "model_") and classes is not None
        if known and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"classes={classes!r} are not those of before: {self.classes_!r}")
        return self._train_once(X, y, classes)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, float32, in the form of `predict` with a last dimension for the classes.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        check_is_fitted(self, "model_")
        return self.model_.predict_proba(self._open_known(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of labelled steps, or of sequences, that are predicted right; of several labels all must be right.

        Args:
            sample_weight: (n,) how much each sequence counts; for tasks with one answer per sequence.

        Raises:
            NotFittedError: before `fit`.
            ValueError: y has no label, or X is not like that of the fit.
        """
        data = self._labelled(X, y)
        if sample_weight is not None and not data.per_sequence:
            raise ValueError("sample_weight is for one label per sequence")
        task = self.model_.task
        labelled = task.labelled(data.known)
        outputs = self.model_.outputs(data.values)
        if isinstance(task, LabelTask):
            right = outputs.labels == data.known
        else:
            right = (task.predicted(outputs) == data.known).all(axis=1)
        weights = None if sample_weight is None else np.asarray(sample_weight)[labelled]
        return float(np.average(right[labelled], weights=weights))


def _sequence_names(model: TrainedModel, table: Table) -> dict[str, int]:
    """The rows of each sequence of a long table in memory, by its name."""
    name = model.schema.sequence
    if name is None or not isinstance(table, MemoryTable) or table.offsets is not None or name not in table.names:
        return {}
    return Counter(table.texts(name).tolist())
