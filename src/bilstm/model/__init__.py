"""The trained model: what it reads, its network, what it predicts, and how it was trained."""

from bilstm.model.trained import TrainedModel
from bilstm.model.training import train

__all__ = ["TrainedModel", "train"]
