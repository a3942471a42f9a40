"""The same network in several variants, on the same sequences and from the same seeds: what differs, how surely."""

import sys
from types import ModuleType

from bilstm.compare.comparison import ComparisonInterrupted, compare, run_comparison
from bilstm.compare.planning import Plan, plan_comparison

__all__ = ["ComparisonInterrupted", "Plan", "compare", "plan_comparison", "run_comparison"]


class _Callable(ModuleType):
    """Python binds the name `bilstm.compare` to this package, so calling it does what its function does."""

    __call__ = staticmethod(compare)


sys.modules[__name__].__class__ = _Callable
