"""What the readers of other libraries' files tell about a file, whichever library wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from bilstm.errors import UserError
from bilstm.layers import Padding, to_json
from bilstm.models import Sequential

if TYPE_CHECKING:
    from bilstm.bridges.checking import Check

IN_FLOAT32 = "bilstm computes in float32"  # ends the notes on other precisions


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Whether the source library read the padding of shorter sequences, which bilstm never does.

    Attributes:
        agrees: whether it did not, so that ragged batches give the same predictions there and here.
        masked: whether something in the file says which steps are padding: a mask, lengths, or a ragged input.
        sentence: which layer read it, and why.
    """

    agrees: bool
    masked: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """What a file of another library holds.

    Attributes:
        model: the model, not compiled.
        path: the file.
        layers: of each layer in the file its name, its kind and what it became here.
        notes: what acts in training only and was left out, and similar remarks.
        reach: whether the source library read padding.
        steps: the number of time steps that the file fixes for each sequence; None: any.
    """

    model: Sequential
    path: str
    layers: list[tuple[str, str, str]]
    notes: list[str]
    reach: Reach = field(repr=False)
    steps: int | None = None

    @property
    def what(self) -> str:
        """What kind of file it is, and what wrote it."""
        raise NotImplementedError

    @property
    def agrees(self) -> bool:
        """Whether ragged batches give the same predictions where the file is from, with shorter sequences padded."""
        return self.reach.agrees

    @property
    def padding(self) -> str:
        """A sentence about why."""
        return self.reach.sentence

    @property
    def exact(self) -> bool:
        """Whether the numbers of the file and of its library are float32, as here."""
        return not any(note.endswith(IN_FLOAT32) for note in self.notes)

    def check(self) -> Check:
        """Compare predictions with those of the library that the file is from, where that is installed.

        Both read sequences of random lengths and values; bilstm needs the library for nothing else.
        """
        raise NotImplementedError

    def padded(self, steps: int, side: str = "post", value: float = 0.0) -> Self:
        """The file with a model that reproduces predictions for padded sequences.

        Without a mask, the source library read padding as data: its backward direction began there. This model extends
        each sequence in the same way before it reads it; a `Padding` layer comes first.

        Args:
            steps: the number of time steps that sequences were padded to.
            side: "post": padding was put after a sequence's last step; "pre": before its first.
            value: the padding's.

        Raises:
            UserError: nothing read the padding; or what did cannot be reproduced, which the message explains.
        """
        first = Padding(steps, side, value)
        if self.agrees and (self.reach.masked or side == "post"):
            raise UserError(
                f"{self.path}: no layer reads padding, so that there is nothing to reproduce: convert it without "
                f"--padded-like-the-source"
            )
        if self.reach.masked:
            raise UserError(
                f"{self.path}: what was read as padding cannot be reproduced, since masked steps are left out here: "
                f"{self.reach.sentence}"
            )
        if self.steps not in (None, steps):
            raise UserError(f"{self.path}: its sequences have {self.steps:,} time steps, not {steps:,}: pad to those")
        config = self.model.get_config()
        config["layers"] = [to_json(first), *config["layers"]]
        try:
            model = Sequential.from_config(config, draw=False)
        except ValueError as error:
            raise UserError(f"{self.path}: padding cannot be reproduced: {error}") from None
        model.set_weights(self.model.get_weights())
        kind = "after their ends" if side == "post" else "before their beginnings"
        sentence = (
            f"padding: sequences are extended to {steps:,} time steps by {value:g} {kind}, which the layers read as "
            f"data, as they did where the file is from"
        )
        return replace(self, model=model, steps=steps, reach=replace(self.reach, agrees=True, sentence=sentence))
