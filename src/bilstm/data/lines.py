"""The lines of text files, and why a file cannot be read as text."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import IO, cast

from bilstm.errors import UserError
from bilstm.files import AnyPath, reason

UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def text_lines(path: AnyPath, encoding: str | None = None) -> Iterator[str]:
    """The lines of a text, compressed by gzip or not, with the ends they have.

    Args:
        path: the file.
        encoding: of the text; None: UTF-8, or what a byte order mark says.

    Raises:
        UserError: the file cannot be read; the message says why, and where text is not in its encoding.
    """
    known = encoding or found_encoding(path) or "utf-8"
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=_with_mark(known), newline="") as file:
            for first in islice(file, 1):  # a mark may stand before any encoding's text
                yield first.removeprefix("\ufeff")
            yield from file
    except UnicodeError:
        raise UserError(_encoding_message(path, encoding)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is damaged: its gzip data is not complete") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def found_encoding(path: AnyPath) -> str | None:
    """The encoding that the byte order mark of a text says, where it is not UTF-8."""
    with contextlib.suppress(OSError, EOFError, zlib.error), open_bytes(path) as file:
        if file.read(2) in UTF_16:
            return "utf-16"
    return None


def open_bytes(path: AnyPath) -> IO[bytes]:
    """Open for reading in binary, decompressing what begins like gzip."""
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzip(path) else open(path, "rb")


def is_gzip(path: AnyPath) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def is_utf_8(encoding: str) -> bool:
    """Whether an encoding is UTF-8, by any of its names."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def encode(path: AnyPath, encoding: str, *, compress: bool) -> None:
    """Rewrite a file of UTF-8 text in another encoding.

    Args:
        compress: whether to write gzip.

    Raises:
        UnicodeEncodeError: the encoding has not all characters.
    """
    other = f"{path}.encoded"
    try:
        with contextlib.ExitStack() as stack:
            raw: IO[bytes] = stack.enter_context(open(other, "wb"))
            if compress:
                raw = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)))
            file = stack.enter_context(io.TextIOWrapper(raw, encoding=encoding, newline=""))
            file.writelines(text_lines(path, "utf-8"))
        os.replace(other, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)


def _with_mark(encoding: str) -> str:
    """The encoding that passes over a byte order mark at the beginning."""
    return "utf-8-sig" if is_utf_8(encoding) else encoding


def _encoding_message(path: AnyPath, encoding: str | None) -> str:
    what = encoding or found_encoding(path) or "UTF-8"
    with contextlib.suppress(OSError, EOFError, zlib.error), open_bytes(path) as file:
        start = file.read(4)
        if start == b"PAR1":
            return f"{path} is a Parquet file: give it a name that ends in .parquet"
        file.seek(0)
        for number, line in enumerate(file if is_utf_8(what) else (), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"{path}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x})"
                return f"{byte}: save the file as UTF-8, or say its encoding, such as --encoding latin-1"
    return f"{path} is not {what} text: save the file as UTF-8, or say its encoding with --encoding"
