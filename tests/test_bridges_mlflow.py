"""MLflow's flavour: a folder, a run and pyfunc give the model's predictions. `make test-slow` installs MLflow."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm import TrainedModel
from bilstm.bridges import mlflow as flavor
from bilstm.errors import ModelFileError, UserError


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.repeat(np.arange(10), 6), "speed": random.normal(size=60)})
    return frame.assign(state=np.where(frame["speed"] > 0, "up", "down"), level=2 * frame["speed"])


def trained(target: str, kind: str) -> TrainedModel:
    data = table()[["id", "speed", target]]
    options: dict[str, Any] = {"epochs": 1, "units": 3, "layers": 1, "seed": 0, "verbose": False}
    return bilstm.train(data, sequence="id", label=target, task=kind, **options)


@pytest.fixture(scope="module")
def mlflow() -> Any:
    """MLflow, whose runs are kept in a folder."""
    if "mlflow" not in sys.modules:
        pytest.importorskip("mlflow")
    import mlflow

    return mlflow


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's
@pytest.mark.parametrize(("target", "kind"), [("state", "step-label"), ("level", "step-quantity")])
def test_a_folder(target: str, kind: str, mlflow: Any, tmp_path: Path) -> None:
    model, data = trained(target, kind), table()
    signature = mlflow.models.infer_signature(data[["id", "speed"]])
    flavor.save_model(model, tmp_path / "model", signature=signature)
    again = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(data[["id", "speed"]]), model.predict(data))
    assert again.metadata.signature == signature
    assert again.metadata.flavors["bilstm"]["task"] == kind
    np.testing.assert_array_equal(flavor.load_model(tmp_path / "model").predict(data), model.predict(data))
    with pytest.raises(UserError, match="exists already, and is no empty folder"):
        flavor.save_model(model, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        flavor.load_model(tmp_path / "empty")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run(mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    model = trained("state", "step-label")
    with mlflow.start_run():
        logged = flavor.log_model(model, "tagger")
    np.testing.assert_array_equal(flavor.load_model(logged.model_uri).predict(table()), model.predict(table()))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "mlflow":
            raise ModuleNotFoundError("No module named 'mlflow'")
        return there(name, *arguments, **options)

    model = trained("state", "step-label")
    monkeypatch.setattr(builtins, "__import__", missing)
    for call in (lambda: flavor.save_model(model, tmp_path / "m"), lambda: flavor.load_model("m")):
        with pytest.raises(UserError, match=r"pip install 'bilstm\[mlflow\]'"):
            call()
    assert not (tmp_path / "m").exists()


def test_pyfunc_takes_no_params(tmp_path: Path) -> None:
    model = trained("state", "step-label")
    model.save(tmp_path / "model")
    wrapped = flavor._load_pyfunc(str(tmp_path / "model"))
    np.testing.assert_array_equal(wrapped.predict(table()), model.predict(table()))
    with pytest.raises(UserError, match="takes no params, such as 'k'"):
        wrapped.predict(table(), {"k": 1})
