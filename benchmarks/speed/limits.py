"""What was tried for the cases whose targets may be missed, and what limits them: printed where they are.

And what of the peers is not measured.
"""

from __future__ import annotations

LIMITS = {
    "S1 fit": "A step is ten dependent steps of two directions, each a chain of additions and then of an activation's "
    "operations: latency, not arithmetic. Tried: both directions in turns in one thread, gates of the last units in "
    "shared vectors, several steps in a call.",
    "S1 call": "Half of the time is Python's and the call's. Tried: one call of the engine for a small array, with its "
    "checks made in C.",
    "S2": "At two vectors of AVX2 a cycle, activations take some 50 microseconds of a step on one thread, products 46 "
    "and the weights' gradients 22; 20 units leave a part of the lanes empty, and 16 sequences a share make tiles of "
    "three rows and of two. Tried: shares of the batch that go through a whole step in one thread, gates of the last "
    "units in shared vectors, longer and shorter waiting for the next section, places of a row's numbers found once a "
    "tile, partial vectors without calls, gates divided by the divider (a twentieth), taller tiles where they are "
    "narrow, features gathered some rows ahead and fewer divisions in the score (a twelfth together), shares of eight "
    "sequences (nothing), other options of the compiler (nothing).",
    "N1": "The gates of 16,000 steps, 16 MB a direction and layer, go through memory twice, and 64 units make short "
    "products between activations. Tried: gradients by chunks that stay in cache, places fetched ahead of each tile "
    "(a sixth of the step), larger pages; projecting the inputs ahead, or shares of eight sequences, whose gates the "
    "third cache would hold, brought nothing.",
    "N2": "Few sequences run at once, so every step reads all weights for a few rows. Tried: sorting by length, "
    "projections of the inputs' part ahead where at most three rows run, a direction to a thread instead of half the "
    "sequences (nothing).",
    "N4": "320 units are up to 4.9 MB of weights a direction: each step reads them from the second and third cache. "
    "Tried: a direction to a thread, which then reads one direction's only.",
    "L1": "Ten dependent steps; of the three and a half microseconds a quarter is Python's call. Tried: both "
    "directions in turns, so that each fills the other's pauses; several blocks activated together (slower on AVX2, "
    "whose registers run out; so does activating in pairs of vectors, which changed nothing); prepared calls, places "
    "that are followed rather than looked up, gates divided by the divider, whose result comes sooner (a fourteenth), "
    "sequences that are arranged once and a call with one argument (a sixth), the last two panels of both directions "
    "together where the second is narrow (a twenty-fifth).",
    "L2": "One sequence: a step waits for the one before, and two directions are all that two threads can share. "
    "Tried: the inputs' part of many steps at once, two panels together to hide an addition's latency.",
    "L3": "As L2, and each step reads a megabyte of recurrent weights a direction from the second and third cache; "
    "rounded to bfloat16 they are half as large, which is a sixth faster, but inexact.",
    "P1": "On AVX2 seven tenths of the time are products, at four fifths of the peak, and the rest activations. Tried: "
    "several vectors in lockstep, operations by pairs of terms, a shorter polynomial (three operations of "
    "twenty-five), gates divided by the processor's divider, beside its multipliers (a ninth of the time), tiles of "
    "six rows by two vectors in two turns, which read each weight half as often (nothing here, and slower in P3).",
    "P2": "As N2. Tried: a direction to a thread instead of half of the sequences (a tenth).",
    "P3": "As N2, with 3 MB of weights a direction; rounded to bfloat16 they are half as large.",
}

NOT_MEASURED = (
    "Of the peers that only predict, ncnn takes a sequence at a time, and LiteRT, MNN and tract read no lengths: their "
    "sequences of different lengths are turned around by hand, which is exact. MNN's operator for recurrent layers is "
    "measured, since its converter's default, a loop, ends in an error. LiteRT and ncnn are measured with LSTMs only; "
    "cases with a convolution leave out the two, JAX and Flax. tract predicts in one thread: it has no choice of more."
)
