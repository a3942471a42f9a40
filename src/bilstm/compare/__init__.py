"""The same network in several variants, on the same sequences and from the same seeds: what differs, how surely."""

from bilstm.compare.comparison import ComparisonInterrupted, compare_encoded
from bilstm.compare.sequences import compare

__all__ = ["ComparisonInterrupted", "compare", "compare_encoded"]
