"""Predictions for batches of tables, in whichever process a scheduler has them."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bilstm.data.arrow import ArrowTarget, read_arrow
from bilstm.data.database import recycle, use_threads
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.stores import StoredPath, as_path
from bilstm.errors import UserError
from bilstm.files import AnyPath, digest
from bilstm.model.predictions import PredictionOptions, write_predictions
from bilstm.model.trained import TrainedModel
from bilstm.utils import set_threads, threads

if TYPE_CHECKING:
    import pyarrow as pa

_LABEL = "the batch"  # what messages call a table
_loading = threading.Lock()


class Predictor:
    """Predicts for tables in the workers of a distributed system; what it gives is what `bilstm predict` writes.

    It is a class for Ray Data's `map_batches(batch_format="pyarrow")`, and an object of it is a function for Ray's
    `map_groups`, Spark's `mapInArrow` and `applyInArrow`, and Dask's `map_partitions`. It is pickled as its arguments.
    A process reads the model at its first table, and keeps one copy of it whatever the number of its tasks.

    A row is a whole sequence if the model's features are lists there, or a time step of the sequence that a column
    names. Then a table, or the tables of an iterator together, must hold whole sequences: group or partition by that
    column. Sequences never depend on each other, so that any division into tables gives the same predictions, bit for
    bit.

    Args:
        path: the model's file, on a disk or in a store, which all workers must be able to read.
        sequence, order, features: names of columns, where they differ from training's; see `TrainedModel.adapted`.
        reading: as which data cells are read, where that differs from training's.
        probabilities: whether to add a column for each label with its probability.
        top: how many of the likeliest labels to give.
        paths: of models with output "crf" or "constrained", how many of the likeliest labels of whole sequences to add.
        events: whether to give a row for each run of equal labels instead of each step.
        background: with events, the label that is no event.
        spans: whether to give a row for each span that tags such as B-X and I-X mark.
        precision: of the weights, "float32" or "bfloat16".
        threads: how many the process uses. None: one for each CPU that its scheduler has granted, by its affinity,
            its control group and OMP_NUM_THREADS, which Ray and Spark set.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(
        self,
        path: AnyPath,
        *,
        sequence: str | None = None,
        order: str | None = None,
        features: Sequence[str] | None = None,
        reading: ReadingOptions = PLAIN,
        probabilities: bool = False,
        top: int = 1,
        paths: int = 0,
        events: bool = False,
        background: str | None = None,
        spans: bool = False,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        self._columns: dict[str, Any] = {"sequence": sequence, "order": order, "features": features, "reading": reading}
        self._options = PredictionOptions(
            probabilities=probabilities, top=top, paths=paths, events=events, background=background, spans=spans
        )
        self._precision, self._threads = precision, threads
        file = as_path(path)
        self.path = file.address if isinstance(file, StoredPath) else os.path.abspath(file)
        self._digest = digest(file)
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("model", "__signature__")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__name__ = type(self).__name__  # which Ray reads of what it calls for groups of rows
        # Spark counts the arguments of what it calls, and would count `self`, and reads their annotations.
        only = inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.__signature__ = inspect.Signature([only])

    def __repr__(self) -> str:
        return f"Predictor({self.path!r})"

    @functools.cached_property
    def model(self) -> TrainedModel:
        """The model, as it reads these tables.

        Raises:
            UserError: the file is not the one that the predictor was made with, or cannot give what is asked for.
        """
        with _loading:
            model = _load(self.path, self._digest).adapted(**self._columns)
        model.precision = self._precision
        self._options.check(model.task)
        if self._threads is not None:
            set_threads(self._threads)
        use_threads(threads())
        return model

    def __call__(self, data: Any) -> Any:
        """Predict for the sequences of a table, or of several.

        Args:
            data: an Arrow table or record batch, or anything with Arrow's PyCapsule interface; a pandas data frame; or
                an iterator of these.

        Returns:
            The table with further columns, or a table of sequences or of runs, as `bilstm predict` writes them: an
            Arrow table, a data frame for a data frame, or for an iterator an iterator of record batches. A table
            without a row gives one with the same columns as others.

        Raises:
            UserError: the table is not like those of training; the message says where.
        """
        if isinstance(data, Iterator):
            return self._batches(data)
        if type(data).__module__.partition(".")[0] == "pandas":
            return self._frame(data)
        return self._table(_arrow(data))

    def schema(self, columns: pa.Schema) -> pa.Schema:
        """The columns of the predictions for a table with these columns.

        Raises:
            UserError: there can be none, such as for a long table without a column that identifies its sequences.
        """
        from bilstm.distributed.columns import predicted_schema

        return predicted_schema(self.model, self._options, columns)

    def _table(self, table: pa.Table) -> pa.Table:
        schema = self.schema(table.schema)
        if not table.num_rows:
            return schema.empty_table()
        model, target = self.model, ArrowTarget()
        read = read_arrow(
            table,
            _LABEL,
            steps=[*model.schema.features, *model.task.columns],
            text=model.schema.text,
            long=model.schema.sequence is not None,
            reading=model.schema.reading,
        )
        write_predictions(model, read, model.read(read), self._options, target)
        recycle(read.connection)
        if schema.names[: table.num_columns] != table.column_names:
            return target.table.cast(schema)
        for field in list(schema)[table.num_columns :]:  # the other columns keep types that the database does not have
            table = table.append_column(field, target.table.column(field.name).cast(field.type))
        return table

    def _batches(self, data: Iterator[Any]) -> Iterator[pa.RecordBatch]:
        """Predictions for tables whose sequences may continue from one to the next."""
        from bilstm.distributed.columns import has_lists, sequence_column
        from bilstm.distributed.sequences import whole_sequences

        rest: Iterator[pa.Table] = map(_arrow, data)
        for first in rest:
            tables: Iterator[pa.Table] = itertools.chain([first], rest)
            if not has_lists(self.model, first.schema):
                tables = whole_sequences(tables, sequence_column(self.model, first.schema))
            for table in tables:
                yield from self._table(table).to_batches()

    def _frame(self, frame: Any) -> Any:
        """Predictions for a pandas data frame, whose index stays and may name the sequences."""
        import pyarrow as pa

        indexed = [name for name in frame.index.names if name is not None and name not in frame.columns]
        columns = frame.reset_index(level=indexed) if indexed else frame
        schema = pa.Schema.from_pandas(columns, preserve_index=False)
        if not len(frame):  # then objects may have been lists or texts: of the latter, newer versions say so
            kinds = [pa.list_(pa.null()) if pa.types.is_null(field.type) else field.type for field in schema]
            schema = pa.schema(list(zip(schema.names, kinds, strict=True)))
        table = pa.Table.from_pandas(columns, schema, preserve_index=False)
        predicted = self._table(table)
        if predicted.column_names[: table.num_columns] != table.column_names:
            return predicted.to_pandas()
        added = predicted.select(predicted.column_names[table.num_columns :]).to_pandas()
        return frame.assign(**{name: added[name].array for name in added.columns})


@functools.lru_cache(maxsize=4)
def _load(path: str, contents: str) -> TrainedModel:
    """The model of a file, one for all that predicts in this process."""
    if digest(as_path(path)) != contents:
        raise UserError(
            f"{path} is not the model that the predictor was made with: it was replaced since, or this machine has "
            f"another one there"
        )
    return TrainedModel.load(path)


def _arrow(data: Any) -> pa.Table:
    """An Arrow table of what has Arrow's PyCapsule interface.

    Raises:
        UserError: it has not.
        ImportError: PyArrow is not installed.
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ImportError("predictions for Arrow tables need PyArrow: pip install pyarrow") from None
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)])
    raise UserError(
        f"{_LABEL} is a {type(data).__name__}: pass an Arrow table or record batch, a pandas data frame, an object "
        f"with Arrow's PyCapsule interface, or an iterator of these"
    )
