"""Models of Keras's, old and new, without Keras and TensorFlow: `pip install 'bilstm[keras]'` adds h5py, nothing else.

`load` opens a `.keras` or `.h5` file of Keras 2 or 3 as a `Sequential`; `read` also tells what it found.
"""

from __future__ import annotations

from bilstm.bridges.keras.reading import KerasFile, load, read

__all__ = ["KerasFile", "load", "read"]
