"""Models of Keras's, old and new, without Keras and TensorFlow: `pip install 'bilstm[keras]'` adds h5py, nothing else.

`load` opens a `.keras` or `.h5` file of Keras 2 or 3, or a SavedModel folder, as a `Sequential`; `read` also tells what
it found. Both take live models, too. `save` writes a `.keras` file that Keras 3 loads; `to_keras` makes a live model.
"""

from __future__ import annotations

from bilstm.bridges.keras.reading import KerasFile, load, read
from bilstm.bridges.keras.saving import save, to_keras

__all__ = ["KerasFile", "load", "read", "save", "to_keras"]
