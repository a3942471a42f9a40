"""What an estimate says, in words: a table, and how many machines are worth it."""

from __future__ import annotations

from bilstm.distributed.links import Link
from bilstm.distributed.sizes import Estimate
from bilstm.errors import counted
from bilstm.wording import aligned

_MOST_SHARES = 8
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def summary(estimate: Estimate, network: Link) -> list[str]:
    """The lines that are printed.

    Args:
        network: between machines, without what gloo takes.
    """
    size = f"{amount(estimate.gradient_bytes)} of gradients"
    batches = f"{counted(estimate.batches, 'training step')} in each of at most {counted(estimate.epochs, 'epoch')}"
    shares = f"{counted(estimate.shares, 'share')} in a batch of {estimate.batch_size:,}"
    return [
        f"network: {counted(estimate.parameters, 'weight')}; workers exchange {size} in each training step",
        f"training: {batches}; {shares}",
        f"between machines: {_described(network)}{_own(estimate, network)}",
        f"each machine: like this one, one worker with {counted(estimate.threads, 'thread')}",
        *_table(estimate),
        verdict(estimate),
    ]


def verdict(estimate: Estimate) -> str:
    """How many machines are worth it, and why no more are."""
    chosen, counts = estimate.recommended, sorted(estimate.steps)
    if chosen > 1:
        text = f"{chosen} machines are worth it: {estimate.speedup(chosen):.1f} times as fast as one."
    else:
        text = "One machine is enough."
    if chosen < counts[-1]:
        following = counts[counts.index(chosen) + 1]
        return f"{text} {following} would be {estimate.speedup(following):.2f} times as fast as one."
    if estimate.shares < _MOST_SHARES:
        what = f"a batch of {estimate.batch_size:,} has {counted(estimate.shares, 'share')}"
        text += (
            f" More would have nothing to do: {what}, one for every 16 sequences and {_MOST_SHARES} at most; "
            f"--batch-size (batch_size) makes it larger."
        )
    return text


def _table(estimate: Estimate) -> list[str]:
    head = ("machines", "step", "exchange", "epoch", "training", "times as fast", "predicts, steps/s")
    rows: list[tuple[str, ...]] = [head]
    for workers in sorted(estimate.steps):
        times = (estimate.step, estimate.exchange, estimate.epoch, estimate.training)
        durations = (duration(each(workers)) for each in times)
        speed = f"{workers * estimate.prediction:,.0f}"
        rows.append((str(workers), *durations, f"{estimate.speedup(workers):.2f}", speed))
    return aligned(rows)


def _described(link: Link) -> str:
    bandwidth = f"{8e-9 / link.second_per_byte:.3g} Gbit/s" if link.second_per_byte else "unlimited bandwidth"
    return f"{bandwidth}, {link.latency * 1e3:.3g} ms"


def _own(estimate: Estimate, network: Link) -> str:
    """What gloo adds to a network."""
    if estimate.shares == 1:
        return ""
    if not estimate.measured_link:
        return "; what gloo itself takes was not measured, for which PyTorch is needed"
    added = estimate.link.latency - network.latency
    slower = estimate.link.second_per_byte > network.second_per_byte
    limit = f", at most {8e-9 / estimate.link.second_per_byte:.3g} Gbit/s" if slower else ""
    return f"; gloo itself takes {duration(added)} for each message here{limit}"


def amount(size: int) -> str:
    """`69 kB`, `1.1 MB`, `2.3 GB`: two digits or more."""
    scale, unit = next((scale, unit) for scale, unit in ((1e9, "GB"), (1e6, "MB"), (0, "kB")) if size >= scale)
    value = size / (scale or 1e3)
    return f"{value:,.{1 if value < 10 else 0}f} {unit}"


def duration(seconds: float) -> str:
    """`88 ms`, `1.3 s`, `22 min`: three digits."""
    if seconds == 0:
        return "0"
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 0.9995 * size), _UNITS[-1])
    value = seconds / size
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
