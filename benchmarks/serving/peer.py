"""A plain service with FastAPI around ONNX Runtime or PyTorch, of the network of one of our models.

python -m benchmarks.serving.peer onnx MODEL.safetensors --port 8001 --workers 1
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bilstm.data.features import encode_texts
from bilstm.model import TrainedModel
from bilstm.tasks import LabelTask

Columns = dict[str, list[Any]]
Predict = Callable[[Columns], npt.NDArray[np.float32]]  # a sequence's (steps, classes) probabilities


class Numbers(BaseModel):
    columns: dict[str, list[float]]


class Words(BaseModel):
    columns: dict[str, list[str]]


class Answer(BaseModel):
    predicted: list[str]
    probability: list[float]


def create(kind: str, path: str) -> FastAPI:
    """The application; each worker makes its own."""
    model = TrainedModel.load(path)
    assert isinstance(model.task, LabelTask)
    classes = model.task.classes
    predict = {"onnx": _onnx_runtime, "torch": _pytorch}[kind](model, Path(path))
    app = FastAPI()

    def answer(columns: Columns) -> Answer:
        probabilities = predict(columns)
        codes = probabilities.argmax(axis=1)
        chosen = probabilities[np.arange(len(codes)), codes]
        return Answer(predicted=[classes[code] for code in codes], probability=chosen.astype(float).round(6).tolist())

    if model.schema.categorical:

        @app.post("/label")
        def label_words(question: Words) -> Answer:
            return answer(question.columns)

    else:

        @app.post("/label")
        def label_numbers(question: Numbers) -> Answer:
            return answer(question.columns)

    return app


def _onnx_runtime(model: TrainedModel, path: Path) -> Predict:
    """What `bilstm export` wrote, with raw columns as inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # requests are answered side by side
    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    numeric = {column.name for column in model.schema.numeric}

    def predict(columns: Columns) -> npt.NDArray[np.float32]:
        given = {n: np.array([c], np.float64 if n in numeric else object) for n, c in columns.items()}
        steps = len(next(iter(columns.values())))
        outputs = session.run(["probabilities"], given | {"lengths": np.array([steps], np.int32)})
        probabilities: npt.NDArray[np.float32] = outputs[0][0]
        return probabilities

    return predict


def _pytorch(model: TrainedModel, path: Path) -> Predict:
    """Embeddings, `torch.nn.LSTM` in both directions and a linear layer, with our weights."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    weights = [torch.from_numpy(weight) for weight in model.network.get_weights()]
    schema = model.schema
    tables = [nn.Embedding.from_pretrained(weights.pop(0)) for _ in schema.categorical]
    lstms = nn.ModuleList()
    while len(weights) > 2:
        inputs, units = weights[0].shape[0], weights[1].shape[0]
        lstm = nn.LSTM(inputs, units, batch_first=True, bidirectional=True)
        for suffix in ("l0", "l0_reverse"):
            kernel, recurrent, bias = weights.pop(0), weights.pop(0), weights.pop(0)
            values = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": bias, "bias_hh": 0 * bias}
            for name, value in values.items():
                getattr(lstm, f"{name}_{suffix}").data.copy_(value)
        lstms.append(lstm)
    mean = np.array([column.mean for column in schema.numeric])
    scale = np.array([column.scale for column in schema.numeric])

    @functools.lru_cache(maxsize=1 << 16)
    def indices(text: str) -> list[int]:
        return [int(index) for index in encode_texts(schema.categorical, [text])[0]]

    def predict(columns: Columns) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            if tables:
                (words,) = columns.values()
                found = torch.tensor([indices(word) for word in words])
                x = torch.cat([table(found[:, i]) for i, table in enumerate(tables)], dim=1)
            else:
                cells = np.array([columns[column.name] for column in schema.numeric]).T
                x = torch.from_numpy(((cells - mean) / scale).astype(np.float32))
            x = x[np.newaxis]
            for lstm in lstms:
                x = lstm(x)[0]
            probabilities: npt.NDArray[np.float32] = (x[0] @ weights[0] + weights[1]).softmax(dim=1).numpy()
            return probabilities

    return predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["onnx", "torch"])
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    app = functools.partial(create, arguments.kind, arguments.model)
    config = uvicorn.Config(
        app,
        factory=True,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
        access_log=False,
    )
    if arguments.workers == 1:
        uvicorn.Server(config).run()
    else:
        from uvicorn.supervisors import Multiprocess

        Multiprocess(config, [config.bind_socket()]).run()


if __name__ == "__main__":
    main()
