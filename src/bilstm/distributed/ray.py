"""Predictions for a data set of Ray Data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bilstm.distributed.predictor import Predictor
from bilstm.errors import UserError
from bilstm.files import AnyPath

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["predict"]


def predict(
    model: AnyPath, data: Any, *, workers: int = 1, cpus: float = 1, batch_size: int = 65_536, **options: Any
) -> Dataset:
    """Predict for a data set by actors that have the model in memory.

    A worker that ends is started again, and its batches are predicted for again: they are the same.

    Args:
        model: the model's file, which all machines must be able to read.
        data: a data set of Ray's in which each row is a sequence, or what `ray.data.read_parquet` reads.
        workers: the number of actors. Leave a CPU of the cluster to Ray's own tasks, which read and write.
        cpus: of each actor, which uses as many threads.
        batch_size: the rows that are predicted for at a time.
        options: see `bilstm.distributed.Predictor`.

    Returns:
        The data set with further columns, which is computed when it is written or read.

    Raises:
        UserError: the actors would take all CPUs, so that no data would ever be read, or Ray is not installed.
    """
    try:
        import ray.data
    except ModuleNotFoundError:
        raise UserError("this needs Ray: pip install 'bilstm[ray]'") from None
    if not ray.is_initialized():
        ray.init()
    has = ray.cluster_resources().get("CPU", 0)
    if workers * cpus > has - 1:
        raise UserError(
            f"{workers} workers with {cpus:g} CPUs each leave none of the cluster's {has:g} to read data with, for "
            f"which they would wait forever: use fewer"
        )
    dataset = data if isinstance(data, ray.data.Dataset) else ray.data.read_parquet(data)
    return dataset.map_batches(
        Predictor,
        fn_constructor_args=(os.path.abspath(model),),
        fn_constructor_kwargs=options,
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=cpus,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
