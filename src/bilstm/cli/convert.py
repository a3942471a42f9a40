"""`bilstm convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bilstm.cli.options import FILE
from bilstm.console import say

if TYPE_CHECKING:
    from bilstm.bridges.source import SourceFile


@click.command(short_help="Convert a model of Keras 2 or 3, or an ONNX model.")
@click.argument("file", type=FILE)
@click.option("--out", metavar="MODEL", type=FILE, required=True, help="The model file to write.")
@click.option(
    "--architecture", metavar="JSON", type=FILE, help="The model's description as JSON, if FILE holds weights only."
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Compare predictions with those of Keras, tf-keras or ONNX Runtime, if it is installed.",
)
@click.option(
    "--padded-like-the-source",
    "steps",
    metavar="STEPS",
    type=click.IntRange(min=1),
    help="Predict as an unmasked source did for sequences padded to STEPS time steps.",
)
@click.option(
    "--padding-side",
    type=click.Choice(["post", "pre"]),
    help="Where that padding was: after a sequence's last step (post, the default) or before its first (pre).",
)
@click.option("--padding-value", type=float, help="That padding's value; default: 0.")
@click.option("--force", is_flag=True, help="Replace the --out file even if it is not a bilstm model.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def convert(
    file: str,
    out: str,
    architecture: str | None,
    check: bool,
    steps: int | None,
    padding_side: str | None,
    padding_value: float | None,
    force: bool,
    quiet: bool,
) -> None:
    """Convert a .keras or .h5 FILE of Keras, a SavedModel folder of tf.keras, or an .onnx FILE to a bilstm model file.

    Needs neither Keras nor TensorFlow. If a layer, a node or an argument is not supported, it is named and nothing is
    written.
    """
    from bilstm.errors import UserError
    from bilstm.modelfile import check_model_path

    if steps is None and (padding_side is not None or padding_value is not None):
        raise click.UsageError("--padding-side and --padding-value go with --padded-like-the-source")
    check_model_path(out, inputs=[file, *([architecture] if architecture else [])], force=force)
    converted = _read(file, architecture)
    if steps is not None:
        converted = converted.padded(steps, padding_side or "post", padding_value or 0.0)
    lines = _description(converted)
    if check:
        comparison = converted.check()
        if not comparison.passed:
            raise UserError(
                f"{file}: {comparison.sentence}, more than rounding makes: nothing was written. Please report it; "
                f"--no-check writes the model all the same"
            )
        lines.append(comparison.sentence)
    converted.model.save(out, force=force)
    say([*lines, f"wrote {out}"], quiet)


def _read(file: str, architecture: str | None) -> SourceFile:
    if file.lower().endswith(".onnx"):
        from bilstm.bridges import onnx

        if architecture is not None:
            raise click.UsageError("--architecture is for weights of Keras's: an ONNX model describes itself")
        return onnx.read(file)
    from bilstm.bridges import keras

    return keras.read(file, architecture)


def _description(converted: SourceFile) -> list[str]:
    from bilstm.errors import counted, shown

    rows = [(shown(name)[1:-1], kind, became) for name, kind, became in converted.layers]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        f"{converted.path}: {converted.what}; {counted(converted.model.input_features or 0, 'input')}, "
        f"{counted(converted.model.count_params(), 'parameter')}",
        *(f"  {name:{widths[0]}}  {kind:{widths[1]}}  {became}" for name, kind, became in rows),
        *converted.notes,
        converted.padding,
    ]
