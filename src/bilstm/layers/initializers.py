"""Initial weights, as Keras draws them."""

from __future__ import annotations

import math

import numpy as np

from bilstm.ragged import FloatArray


def glorot_uniform(shape: tuple[int, ...], random: np.random.Generator) -> FloatArray:
    """Uniform in ±sqrt(6 / (rows + columns)), counted in all of a convolution's matrices; Glorot & Bengio 2010."""
    *matrices, rows, columns = shape
    limit = np.sqrt(6.0 / (math.prod(matrices) * (rows + columns)))
    return random.uniform(-limit, limit, shape).astype(np.float32)


def orthogonal(shape: tuple[int, int], random: np.random.Generator) -> FloatArray:
    """Orthonormal rows or columns, whichever are fewer; Saxe et al. 2014."""
    rows, columns = shape
    q, r = np.linalg.qr(random.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diag(r))  # makes the distribution uniform over orthogonal matrices
    return np.ascontiguousarray(q if rows >= columns else q.T, np.float32)


def standard_normal(shape: tuple[int, ...], random: np.random.Generator) -> FloatArray:
    """Of mean 0 and standard deviation 1."""
    return random.standard_normal(shape).astype(np.float32)


def uniform(shape: tuple[int, ...], random: np.random.Generator) -> FloatArray:
    """Uniform in ±0.05, Keras's default for embeddings."""
    return random.uniform(-0.05, 0.05, shape).astype(np.float32)
