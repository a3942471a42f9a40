"""What limits the cases whose targets may be missed, and what was tried: printed where they are, two lines at most.

And what of the peers is not measured.
"""

from __future__ import annotations

from benchmarks.speed.cases import Case

_LIMITS = {
    "S1 fit": "Ten dependent steps, each a chain of additions and one of an activation: latency, not arithmetic. "
    "Tried: directions in turns and in lockstep, the last units' gates in shared vectors, several steps a call.",
    "S1 call": "Half is Python's call. Tried: one call of the engine for a small array, with its checks in C.",
    "S2": "Activations of 20 units leave lanes empty, tiles have two or three rows, and the threads meet three times. "
    "Tried: whole shares a thread, shared vectors, shares of eight, taller tiles, other waits, fewer divisions.",
    "N1": "The gates of 16,000 steps, 16 MB a direction and layer, go through memory twice. Tried: prefetches a few at "
    "a time (−6 %), gradients by chunks in cache, large pages, stores past the caches, shares of eight.",
    "N2": "Few sequences at a time: each step reads all weights for a few rows. Tried: sorting by length, the inputs' "
    "part of many steps at once where at most three rows run, a direction to a thread.",
    "N3": "As N2, with 3 MB of weights a direction, from the second and third cache.",
    "N4": "Up to 4.9 MB of weights a direction, from the second and third cache. Tried: a direction to a thread, which "
    "then reads one direction's only; one thread alone stands at nine tenths of its peak.",
    "L1": "Ten dependent steps, and a third is Python's call. Tried: directions in turns, blocks activated together, "
    "prepared calls (a sixth), gates by the divider (a fourteenth), last panels together (a twenty-fifth).",
    "L2": "One sequence: a step waits for the one before, and two directions are all that two threads share. Tried: "
    "panels back and forth (−10 %), the inputs' part of many steps at once, two panels together.",
    "L3": "As L2, and a step reads a megabyte of recurrent weights a direction. Tried: panels back and forth (−5 %). "
    "With weights rounded to bfloat16 it is a fifth faster, but inexact.",
    "P1": "64 units make short products, at nine tenths of the peak, between activations. Tried: two blocks' "
    "activations together, a shorter polynomial, the divider (a ninth), tiles in two turns, stores past the caches.",
    "P2": "As N2. Tried: a direction to a thread instead of half of the sequences (a tenth).",
    "P3": "As N3.",
    "X1": "As N1; and of lengths from 200 to 2,000, few sequences are left in the end, whose tiles have few rows.",
}


def limit(case: Case) -> str:
    """What limits a case, and what was tried; a GRU and a convolution in front have their case's limit."""
    return _LIMITS.get(case.name) or _LIMITS.get(case.name.rpartition(" ")[0], "")


NOT_MEASURED = (
    "Of the peers that only predict, ncnn takes a sequence at a time, and LiteRT, MNN and tract read no lengths: their "
    "sequences of different lengths are turned around by hand, which is exact. MNN's operator for recurrent layers is "
    "measured, since its converter's default, a loop, ends in an error. LiteRT and ncnn are measured with LSTMs only; "
    "cases with a convolution leave out the two, JAX and Flax. tract predicts in one thread: it has no choice of more."
)
