"""An MLflow flavour: `pip install 'bilstm[mlflow]'` adds MLflow, which is imported when it is used.

`save_model` writes a trained model as a folder of MLflow's, `log_model` logs it to the active run, and `load_model`
opens either. `mlflow.pyfunc.load_model` does too, for programs that know MLflow alone; it predicts for data frames.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from bilstm._version import __version__
from bilstm.errors import UserError
from bilstm.files import AnyPath
from bilstm.model import TrainedModel

FLAVOR = "bilstm"
_FILE = "model.safetensors"


def save_model(model: TrainedModel, path: AnyPath, *, mlflow_model: Any = None, signature: Any = None) -> None:
    """Write a trained model as a folder that MLflow reads.

    Args:
        model: the model.
        path: the folder, which must be new or empty.
        mlflow_model: MLflow's own description, which `log_model` begins; None: a new one.
        signature: of `mlflow.models.infer_signature`; None: without.

    Raises:
        UserError: the folder is not empty; the package mlflow is missing.
    """
    mlflow = _mlflow()
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already, and is no empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / _FILE)
    (folder / "requirements.txt").write_text(f"mlflow\nbilstm[sklearn]=={__version__}\n", encoding="utf-8")
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\ndependencies:\n- -r requirements.txt\n", encoding="utf-8"
    )
    described = mlflow.models.Model() if mlflow_model is None else mlflow_model
    if signature is not None:
        described.signature = signature
    mlflow.pyfunc.add_to_model(described, loader_module=__name__, data=_FILE, python_env="python_env.yaml")
    described.add_flavor(FLAVOR, version=__version__, data=_FILE, task=model.task.kind)
    described.save(str(folder / "MLmodel"))


def log_model(model: TrainedModel, name: str, **options: Any) -> Any:
    """Log a trained model to the active run of MLflow, and return what MLflow knows of it.

    Args:
        model: the model.
        name: what MLflow is to call it.
        options: of `mlflow.models.Model.log`, such as registered_model_name, or of `save_model`.

    Raises:
        UserError: the package mlflow is missing.
    """
    import bilstm.bridges.mlflow as flavor

    return _mlflow().models.Model.log(None, flavor=flavor, name=name, model=model, **options)


def load_model(model_uri: str) -> TrainedModel:
    """The model that `save_model` or `log_model` wrote.

    Args:
        model_uri: a folder, or an address of MLflow's: "runs:/…", "models:/…".

    Raises:
        ModelFileError: there is no model of bilstm's.
        UserError: the package mlflow is missing.
    """
    folder = _mlflow().artifacts.download_artifacts(artifact_uri=str(model_uri))
    return TrainedModel.load(os.path.join(folder, _FILE))


class _Pyfunc:
    """What `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """The labels or quantities of the data frame's rows."""
        if params:
            raise UserError(f"predict takes no params, such as {next(iter(params))!r}")
        return self.model.predict(data)


def _load_pyfunc(path: str) -> _Pyfunc:
    """MLflow calls this by its name."""
    return _Pyfunc(TrainedModel.load(path))


def _mlflow() -> Any:
    try:
        import mlflow
        import mlflow.artifacts
        import mlflow.models
        import mlflow.pyfunc
    except ModuleNotFoundError:
        raise UserError("this needs the package mlflow: pip install 'bilstm[mlflow]'") from None
    return mlflow
