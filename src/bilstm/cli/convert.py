"""`bilstm convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bilstm.cli.options import FILE, say

if TYPE_CHECKING:
    from bilstm.bridges.keras import KerasFile
    from bilstm.bridges.onnx import OnnxFile


@click.command(short_help="Convert a model of Keras 2 or 3, or an ONNX model.")
@click.argument("file", type=FILE)
@click.option("--out", metavar="MODEL", type=FILE, required=True, help="The model file to write.")
@click.option(
    "--architecture", metavar="JSON", type=FILE, help="The model's description as JSON, if FILE holds weights only."
)
@click.option("--force", is_flag=True, help="Replace the --out file even if it is not a bilstm model.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def convert(file: str, out: str, architecture: str | None, force: bool, quiet: bool) -> None:
    """Convert a model in a .keras or .h5 FILE of Keras 2 or 3, or in an .onnx FILE, to a bilstm model file.

    Needs neither Keras nor TensorFlow. If a layer, a node or an argument is not supported, it is named and nothing is
    written.
    """
    from bilstm.modelfile import check_model_path

    check_model_path(out, inputs=[file, *([architecture] if architecture else [])], force=force)
    converted = _read(file, architecture)
    converted.model.save(out, force=force)
    say([*_description(converted), f"wrote {out}"], quiet)


def _read(file: str, architecture: str | None) -> KerasFile | OnnxFile:
    if file.lower().endswith(".onnx"):
        from bilstm.bridges import onnx

        if architecture is not None:
            raise click.UsageError("--architecture is for weights of Keras's: an ONNX model describes itself")
        return onnx.read(file)
    from bilstm.bridges import keras

    return keras.read(file, architecture)


def _description(converted: KerasFile | OnnxFile) -> list[str]:
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
