"""Whatever is wrong, the command line says so in one line that a person can act on, and leaves nothing half-written.

One case a row: the files that are there, the command, and what it prints after `bilstm: `
(… stands for words that others choose). MODEL is a small model trained
on `train.csv`, CONLL one trained on `train.conll`; SEQUENCES, SEVERAL and QUANTITIES have an answer for each sequence.
"""

# ruff: noqa: E501 - one case a row
from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.modelfile import read_model, write_model

HEADER = "id,t,x,word,label\n"
ROWS = [f"s{i // 4},{i % 4},{i % 7 - 3},{'abc'[i % 3]},{'pq'[i % 2]}\n" for i in range(40)]
TRAIN = HEADER + "".join(ROWS)
CONLL = "a X p\nb Y q\n\nb X q\na Y p\n\n" * 6
NDJSON = "".join(json.dumps({"id": i // 4, "x": i % 7, "label": "pq"[i % 2]}) + "\n" for i in range(40))
COLUMNS = "--sequence id --order t --label label"
ANSWERS = "id,u,y,a,b,z\n" + "".join(
    f"{i // 3},{i % 5},{'bc'[i // 3 % 2]},{i // 3 % 2},{i // 6 % 2},{i // 3 / 4}\n" for i in range(60)
)
SEQUENCES = "--sequence id --label y --features u"
NAMES = "Its columns: 'id', 't', 'x', 'word', 'label'"


def with_row(row: str, place: int = 20) -> str:
    """The training table with one more row, so that it stands on line `place`."""
    lines = TRAIN.splitlines(keepends=True)
    return "".join([*lines[: place - 1], row + "\n", *lines[place - 1 :]])


def hostile(**changes: Any) -> Callable[[Path], bytes]:
    """A copy of the model with something changed in its header; `schema__numeric` is a field within a field."""

    def make(model: Path) -> bytes:
        tensors, header = read_model(model)
        for path, value in changes.items():
            *outer, last = path.split("__")
            inner: Any = header
            for name in outer:
                inner = inner[int(name) if name.isdigit() else name]
            inner[int(last) if last.isdigit() else last] = value
        changed = model.with_name("changed")
        write_model(changed, tensors, header)
        content = changed.read_bytes()
        changed.unlink()
        return content

    return make


def parquet(sql: str) -> Callable[[Path], bytes]:
    def make(model: Path) -> bytes:
        import duckdb

        path = model.with_name("made.parquet")
        duckdb.connect().execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)").fetchall()
        content = path.read_bytes()
        path.unlink()
        return content

    return make


def cut(share: float) -> Callable[[Path], bytes]:
    return lambda model: model.read_bytes()[: int(share * model.stat().st_size)]


def safetensors(metadata: dict[str, str] | None) -> bytes:
    from safetensors.numpy import save

    return save({"weight": np.zeros(3, np.float32)}, metadata)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    command: str
    message: str
    files: dict[str, str | bytes | Callable[[Path], bytes]] = dataclasses.field(default_factory=dict)


def case(name: str, command: str, message: str, **files: Any) -> Any:
    """A row of the table. A file's name is written with `_` for `.`."""
    return pytest.param(
        Case(name, command, message, {key.replace("_", "."): value for key, value in files.items()}), id=name
    )


def train(name: str, message: str, content: Any = TRAIN, command: str = COLUMNS) -> Any:
    """A table that cannot be trained on."""
    return case(name, f"train new.csv {command} --out out", message, new_csv=content)


def predict(name: str, message: str, content: Any, suffix: str = "csv") -> Any:
    return case(name, f"predict MODEL new.{suffix} --out out.csv", message, **{f"new_{suffix}": content})


def evaluate(name: str, message: str, content: Any) -> Any:
    return case(name, "evaluate MODEL new.csv", message, new_csv=content)


def config(name: str, message: str, content: str, command: str = f"train train.csv {COLUMNS} --out out") -> Any:
    """A file of options that cannot be taken."""
    return case(f"config: {name}", f"{command} --config new.toml", f"new.toml: {message}", new_toml=content)


def model(name: str, message: str, content: Any) -> Any:
    """A file that is no model."""
    return case(name, "predict new train.csv --out out.csv", message, new=content)


def compare(name: str, message: str, flags: str, **files: Any) -> Any:
    """Flags of a comparison that cannot be."""
    return case(name, f"compare train.csv {COLUMNS} {flags}", message, **files)


CASES = [
    # --- the command itself
    case("unknown command", "trian train.csv", "there is no command 'trian'. Did you mean 'train'? The commands: compare, completion, convert, demo, estimate, evaluate, export, inspect, predict, serve, train"),
    case("unknown option", "train train.csv --out out --epoch 3", "no such option '--epoch'. Did you mean '--epochs'?"),
    case("no table", "train --out out", "missing argument 'TABLE…"),
    case("no output", "train train.csv", "missing option '--out'."),
    case("one argument too many", "convert a.keras b.keras --out out", "got unexpected extra argument (b.keras)"),
    case("negative epochs", "train train.csv --out out --epochs -1", "invalid value for '--epochs': -1 is not in the range x>=1."),
    case("no units", "train train.csv --out out --units 0", "invalid value for '--units': 0 is not in the range x>=1."),
    case("fractional layers", "train train.csv --out out --layers 1.5", "invalid value for '--layers': '1.5' is not a whole number."),
    case("unknown merge mode", "train train.csv --out out --merge-mode add", "invalid value for '--merge-mode': 'add' is not one of 'concat', 'sum', 'mul', 'ave'."),
    case("unknown direction", "train train.csv --out out --direction up", "invalid value for '--direction': 'up' is not one of 'both', 'forward', 'backward', 'none'."),
    case("unknown cell", "train train.csv --out out --cell rnn", "invalid value for '--cell': 'rnn' is not one of 'lstm', 'gru', 'simple'."),
    case("cells without recurrence", f"train train.csv {COLUMNS} --out out --quiet --cell gru --direction none", "cell has no effect with direction 'none', which has no recurrent layers; leave it out"),
    case("dropout of everything", "train train.csv --out out --dropout 1", "invalid value for '--dropout': 1.0 is not in the range 0<=x<1."),
    case("dropout NaN", f"train train.csv {COLUMNS} --out out --dropout nan", "training: dropout must be at least 0 and below 1, not nan"),
    case("learning rate nought", "train train.csv --out out --learning-rate 0", "invalid value for '--learning-rate': 0.0 is not in the range x>0."),
    case("learning rate infinite", "train train.csv --out out --learning-rate inf", "training: learning_rate must be a positive number, not inf"),
    case("learning rate NaN", "train train.csv --out out --learning-rate nan", "training: learning_rate must be a positive number, not nan"),
    case("learning rate a word", "train train.csv --out out --learning-rate fast", "invalid value for '--learning-rate': 'fast' is not a number."),
    case("negative weight decay", "train train.csv --out out --weight-decay -1", "invalid value for '--weight-decay': -1.0 is not in the range x>=0."),
    case("weight decay NaN", f"train train.csv {COLUMNS} --out out --weight-decay nan", "training: weight_decay must be a number from 0 to below 1 / learning_rate, not nan"),
    case("more decay than there is", f"train train.csv {COLUMNS} --out out --weight-decay 1000", "training: weight_decay must be a number from 0 to below 1 / learning_rate, not 1000.0"),
    case("weights of no class", f"train train.csv {COLUMNS} --out out --class-weight balnced", "invalid value for '--class-weight': 'balnced' is neither 'balanced', alone, nor a label and its weight, such as rare=3."),
    case("a weight that is none", f"train train.csv {COLUMNS} --out out --class-weight a=much", "invalid value for '--class-weight': 'a=much' is neither 'balanced', alone, nor a label and its weight, such as rare=3."),
    case("balanced and otherwise", f"train train.csv {COLUMNS} --out out --class-weight balanced --class-weight a=2", "invalid value for '--class-weight': 'balanced' is neither 'balanced', alone, nor a label and its weight, such as rare=3."),
    case("two weights", f"train train.csv {COLUMNS} --out out --class-weight p=1 --class-weight p=2", "invalid value for '--class-weight': the label 'p' has two weights."),
    case("weight of an unknown label", f"train train.csv {COLUMNS} --out out --class-weight nobody=2", "class_weight has 'nobody', which is none of the classes 'p', 'q'"),
    case("recurrent dropout", "train train.csv --out out --recurrent-dropout 0.2", "no such option '--recurrent-dropout'. Did you mean '--dropout'?"),
    case("negative patience", "train train.csv --out out --patience -2", "invalid value for '--patience': -2 is not in the range x>=1."),
    case("everything held out", "train train.csv --out out --validation-split 1", "invalid value for '--validation-split': 1.0 is not in the range 0<=x<1."),
    case("negative seed", "train train.csv --out out --seed -1", "invalid value for '--seed': -1 is not in the range 0<=x<=4294967295."),
    case("no threads", "train train.csv --out out --threads 0", "invalid value for '--threads': 0 is not in the range 1<=x<=1024."),
    case("no time", "train train.csv --out out --time-limit 0", "invalid value for '--time-limit': 0.0 is not in the range x>0."),
    case("resume from nowhere", f"train train.csv {COLUMNS} --out out --resume", "--resume needs the file that holds the training: name it with --checkpoint"),
    case("minutes without a checkpoint", f"train train.csv {COLUMNS} --out out --checkpoint-minutes 5", "--checkpoint-minutes needs the file that holds the training: name it with --checkpoint"),
    case("no minutes", "train train.csv --out out --checkpoint c --checkpoint-minutes 0", "invalid value for '--checkpoint-minutes': 0.0 is not in the range x>0."),
    case("minutes NaN", f"train train.csv {COLUMNS} --out out --checkpoint c --checkpoint-minutes nan", "the minutes between two checkpoints must be a positive number, not nan"),
    case("minutes infinite", f"train train.csv {COLUMNS} --out out --checkpoint c --checkpoint-minutes inf", "the minutes between two checkpoints must be a positive number, not inf"),
    case("checkpoint where the model goes", f"train train.csv {COLUMNS} --out out --checkpoint ./out", "--out and --checkpoint name the same file, ./out: give each its own"),
    case("log where the checkpoint goes", f"train train.csv {COLUMNS} --out out --checkpoint c --log c", "--checkpoint and --log name the same file, c: give each its own"),
    case("log where the model goes", f"train train.csv {COLUMNS} --out out --log out", "--out and --log name the same file, out: give each its own"),
    case("events where the model goes", f"train train.csv {COLUMNS} --out out --tensorboard out", "--out and --tensorboard name the same file, out: give each its own"),
    case("events below a file", f"train train.csv {COLUMNS} --out out --tensorboard train.csv/runs", "cannot write events into train.csv/runs: train.csv is not a folder"),
    case("events without a tolerance", "evaluate MODEL train.csv --events", "option '--events' requires an argument."),
    case("events with a negative tolerance", "evaluate MODEL train.csv --events -1", "invalid value for '--events': -1 is not in the range x>=0."),
    case("events with half a step of tolerance", "evaluate MODEL train.csv --events 0.5", "invalid value for '--events': '0.5' is not a whole number."),
    case("events with a label as tolerance", "evaluate MODEL train.csv --events p", "invalid value for '--events': 'p' is not a whole number."),
    case("a background without events", "evaluate MODEL train.csv --background p", "--background says which label is no event: it needs --events"),
    case("a background that is no label", "evaluate MODEL train.csv --events 1 --background none", "the background 'none' is not one of the model's 2 labels. They are 'p', 'q'"),
    case("a background that is nearly a label", "evaluate MODEL train.csv --events 1 --background P", "the background 'P' is not one of the model's 2 labels. Did you mean 'p'? They are 'p', 'q'"),
    case("a background of no name", "evaluate MODEL train.csv --events 1 --background=", "the background '' is not one of the model's 2 labels. They are 'p', 'q'"),
    case("predicted events with a tolerance", "predict MODEL train.csv --out out.csv --events 3", "3 has no ending that gives its format: a table's name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll, or --format says what it is"),
    case("a background without predicted events", "predict MODEL train.csv --out out.csv --background p", "--background says which label is no event: it needs --events"),
    case("a background of predicted events that is no label", "predict MODEL train.csv --out out.csv --events --background P", "the background 'P' is not one of the model's 2 labels. Did you mean 'p'? They are 'p', 'q'"),
    case("events and probabilities", "predict MODEL train.csv --out out.csv --events --probabilities", "--events writes runs of steps, which cannot be combined with --probabilities"),
    case("events and the likeliest", "predict MODEL train.csv --out out.csv --events --top 2", "--events writes runs of steps, which cannot be combined with --top"),
    case("events as CoNLL", "predict CONLL new.conll --out out.conll --events", "cannot write out.conll: events are a table of their own; use .csv, .parquet or .ndjson", new_conll="a\n"),
    case("none of the likeliest", "predict MODEL train.csv --out out.csv --top 0", "invalid value for '--top': 0 is not in the range x>=1."),
    case("more of the likeliest than there are", "predict MODEL train.csv --out out.csv --top 3", "the model knows 2 labels, so it has no 3 likeliest"),
    case("half of the likeliest", "predict MODEL train.csv --out out.csv --top 1.5", "invalid value for '--top': '1.5' is not a whole number."),
    case("probabilities that are there already", "predict MODEL new.csv --out out.csv --probabilities", "new.csv has a column 'Probability_of_P' already: rename it, since it would be replaced", new_csv="id,t,x,word,Probability_of_P\n1,1,1,a,p\n"),
    case("the standard input as CSV", "predict MODEL - --out out.csv", "cannot write out.csv: predictions for the standard input are written as .ndjson, or to -"),
    case("the standard input compressed", "predict MODEL - --out out.ndjson.gz", "cannot write out.ndjson.gz: predictions for the standard input are written as .ndjson, or to -"),
    case("an empty standard input", "predict MODEL - --out -", "standard input is empty: it has no JSON object with a step"),
    case("a shell that is not known", "completion powershell", "invalid value for '{bash|zsh|fish}': 'powershell' is not one of 'bash', 'zsh', 'fish'."),
    case("demo of one step", "demo --steps 1", "invalid value for '--steps': 1 is not in the range x>=2."),
    case("demo of no sequences", "demo --sequences 0", "invalid value for '--sequences': 0 is not in the range x>=1."),
    case("demo merge mode", "demo --merge-mode none", "invalid value for '--merge-mode': 'none' is not one of 'concat', 'sum', 'mul', 'ave'."),
    case("demo picture of no format", "demo --sequences 1 --out picture.doc", "cannot write a picture as picture.doc: the ending must be .png, .svg or .pdf"),
    case("demo picture below a file", "demo --sequences 1 --out train.csv/picture.png", "cannot make the folder train.csv: file exists"),
    case("group not there", f"train train.csv {COLUMNS} --out out --group who", f"train.csv has no column 'who' (the group of each sequence). {NAMES}"),
    case("group the label", f"train train.csv {COLUMNS} --out out --group label", "the group is a column of its own, but 'label' is named for something else too"),
    case("group with a table to validate on", f"train train.csv {COLUMNS} --out out --group word --valid other.csv", "groups stay together in the validation set, and with a validation table none is set aside: leave them out", other_csv=TRAIN),
    case("group with nothing held out", f"train train.csv {COLUMNS} --out out --group word --validation-split 0", "groups stay together in the validation set, and with validation_split=0 none is set aside: leave them out"),
    case("group that divides a sequence", f"train train.csv {COLUMNS} --out out --group word", "train.csv, line 3: the group in column 'word' is 'b', but its sequence begins with 'a'; a sequence belongs to one group"),
    train("group missing", "new.csv, line 3: the cell in column 'who', the group, is missing", "id,x,label,who\na,1,p,m\nb,2,q,\n", "--sequence id --label label --group who"),
    train("one group", "new.csv has one group only, 'm' in column 'who', so none can be set aside for validation; leave groups out, or pass validation data", "id,x,label,who\na,1,p,m\nb,2,q,m\n", "--sequence id --label label --group who"),
    # --- options from a file
    config("no such option", "train has no option 'epoch'. Did you mean 'epochs'? Its options: 'sequence', …", "epoch = 3"),
    config("no such option of this command", "predict has no option 'epochs'. Its options: 'out', …", "epochs = 3", "predict MODEL train.csv --out out.csv"),
    config("options of no command", "train has no option 'trian'. Did you mean 'train'? Its options: 'sequence', …", "[trian]"),
    config("a config in a config", "train has no option 'config'. Its options: …", "config = 'other.toml'"),
    config("fractional epochs", "epochs: '1.5' is not a whole number.", "epochs = 1.5"),
    config("no epochs", "epochs: 0 is not in the range x>=1.", "epochs = 0"),
    config("an unknown direction", "direction: 'up' is not one of 'both', 'forward', 'backward', 'none'.", "[train]\ndirection = 'up'"),
    config("an unknown cell", "cell: 'rnn' is not one of 'lstm', 'gru', 'simple'.", "[train]\ncell = 'rnn'"),
    config("epochs true", "epochs takes text or a number, not true", "epochs = true"),
    config("epochs a list", "epochs takes one value, not a list", "epochs = [1, 2]"),
    config("a date", "seed takes text or a number, not 2024-01-01", "seed = 2024-01-01"),
    config("a table", "seed takes text or a number, not a table", "[seed]"),
    config("lists of lists", "features takes text or a number, not a list", "features = [['x']]"),
    config("quiet a number", "quiet is true or false, not 1", "quiet = 1"),
    config("an option twice", "batch-size and batch_size are the same option", "batch-size = 1\nbatch_size = 2"),
    config("a command as an option", "train is a command; its options stand below [train]", "train = 1"),
    case("no such config", f"train train.csv {COLUMNS} --out out --config new.tml", "there is no file new.tml. Did you mean 'new.toml'?", new_toml="epochs = 1"),
    case("config not TOML", f"train train.csv {COLUMNS} --out out --config new.toml", "new.toml is not a TOML file: expected '=' after a key in a key/value pair …", new_toml="epochs"),
    case("config not UTF-8", f"train train.csv {COLUMNS} --out out --config new.toml", "new.toml is not a TOML file: it is not UTF-8 text", new_toml="a = 'é'".encode("latin-1")),
    case("an empty config", f"train train.csv {COLUMNS} --out out --config new.toml", "new.toml is empty", new_toml=""),
    # --- the files
    case("no such table", f"train trian.csv {COLUMNS} --out out", "there is no file trian.csv. Did you mean 'train.csv'?"),
    case("no such table at all", f"train nothing.parquet {COLUMNS} --out out", "there is no file nothing.parquet"),
    case("no such folder", f"train nowhere/train.csv {COLUMNS} --out out", "there is no file nowhere/train.csv"),
    case("a folder as the table", f"train folder.csv {COLUMNS} --out out", "the folder folder.csv has no file whose name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll"),
    case("unknown format", f"train new.xlsx {COLUMNS} --out out", "new.xlsx has an unknown format (.xlsx): a table's name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll, or --format says what it is", new_xlsx="x"),
    case("no format", f"train new {COLUMNS} --out out", "new has no ending that gives its format: a table's name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll, or --format says what it is", new="x"),
    case("a pipe as the table", f"train pipe.csv {COLUMNS} --out out", "pipe.csv is not an ordinary file: write it to one first"),
    train("empty file", "new.csv is empty", ""),
    train("empty lines only", "new.csv is empty: its first line has to name the columns", "\n\n"),
    train("a header only", "new.csv is empty: it has no row", HEADER),
    train("too few cells", "new.csv, line 20: 4 cells, but the header names 5 columns", with_row("s9,1,2,a")),
    train("too many cells", "new.csv, line 20: 6 cells, but the header names 5 columns", with_row("s9,1,2,a,p,")),
    train("quote not closed", "new.csv, line 20: a quoted cell is not closed properly (unexpected end of data); if \" is a character like others, say so with --no-quotes", with_row('s9,1,2,a,"p')),
    train("quote within a cell", "new.csv, line 20: a quoted cell is not closed properly (',' expected after '\"'); if \" is a character like others, say so with --no-quotes", with_row('s9,1,2,"a"b,p')),
    train("quote not closed in the header", "new.csv, line 1: a quoted cell is not closed properly (unexpected end of data); if \" is a character like others, say so with --no-quotes", 'id,"t\n1,2\n'),
    train("two columns of one name", "new.csv has two columns 'x': give each a name of its own", TRAIN.replace("word", "x", 1)),
    train("two columns of nearly one name", "new.csv has columns 'x' and 'X': give each a name of its own", TRAIN.replace("word", "X", 1)),
    train("Latin-1", "new.csv, line 20: not UTF-8 text (byte 0xe9): save the file as UTF-8, or say its encoding, such as --encoding latin-1", with_row("s9,1,2,é,p").encode("latin-1")),
    train("UTF-16 cut short", "new.csv is not utf-16 text: save the file as UTF-8, or say its encoding with --encoding", TRAIN.encode("utf-16")[:-1]),
    train("Parquet with another name", "new.csv is a Parquet file: give it a name that ends in .parquet", parquet("SELECT 1 AS id")),
    train("gzip cut short", "new.csv is damaged: its gzip data is not complete", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbL"),
    train("gzip in name only", "new.csv is damaged: its gzip data is not complete", b"\x1f\x8bno"),
    case("no Parquet", f"train new.parquet {COLUMNS} --out out", "new.parquet is not a Parquet file, or is damaged (…", new_parquet=TRAIN),
    case("Parquet cut short", f"train new.parquet {COLUMNS} --out out", "new.parquet is not a Parquet file, or is damaged (…", new_parquet=lambda m: parquet("SELECT 1 AS id")(m)[:-9]),
    case("Parquet without a row", f"train new.parquet {COLUMNS} --out out", "new.parquet is empty: it has no row", new_parquet=parquet("SELECT 1 AS id WHERE false")),
    case("Parquet cell", f"train new.parquet {COLUMNS} --out out", "new.parquet, row 3: 'inf' in column 'x' is infinite; give a finite number, or leave the cell empty", new_parquet=parquet("SELECT i AS id, 1 AS t, CASE WHEN i = 2 THEN 'inf'::FLOAT ELSE 1 END AS x, i % 2 AS label FROM range(9) AS t(i)")),
    case("NDJSON not JSON", "train new.ndjson --out out", "new.ndjson, line 3: not one JSON object such as {\"id\": 1, \"x\": 0.5}: Expecting value: line 1 column 6 (char 5)", new_ndjson='{"a": 1}\n\n{"a": \n'),
    case("NDJSON a list", "train new.ndjson --out out", "new.ndjson holds a JSON array that is no export of Doccano, Prodigy or Label Studio: give one JSON object per line, or say with --format whose export it is", new_ndjson='[{"a": 1}]\n'),
    case("NDJSON a number", "train new.ndjson --out out", "new.ndjson, line 2: not one JSON object such as {\"id\": 1, \"x\": 0.5}: it is not an object", new_ndjson='{"a": 1}\n5\n'),
    case("NDJSON with a name twice", "train new.ndjson --out out", "new.ndjson cannot be read as one JSON object per line (an object has two values of the same name)", new_ndjson='{"a": 1, "a": 2}\n'),
    case("NDJSON over several lines", "train new.ndjson --out out", "new.ndjson, line 1: not one JSON object such as {\"id\": 1, \"x\": 0.5}: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", new_ndjson='{\n"a": 1\n}\n'),
    case("NDJSON not UTF-8", "train new.ndjson --out out", "new.ndjson, line 1: not UTF-8 text (byte 0xe9): save the file as UTF-8, or say its encoding, such as --encoding latin-1", new_ndjson='{"a": "é"}\n'.encode("latin-1")),
    case("NDJSON of empty lines", "train new.ndjson --out out", "new.ndjson is empty: it has no JSON object with a value", new_ndjson="\n\n"),
    case("NDJSON of empty objects", "train new.ndjson --out out", "new.ndjson is empty: it has no JSON object with a value", new_ndjson="{}\n{}\n"),
    case("NDJSON with a list in a cell", "train new.ndjson --sequence id --label label --out out", "column 'x' of new.ndjson holds lists or objects; give each number a column of its own, or name the features to use with --features", new_ndjson=NDJSON.replace('"x": 3', '"x": [3]', 1)),
    case("CoNLL ragged", "train new.conll --out out", "new.conll, line 4: 2 columns where the lines before have 3 (columns are separated by blanks): 'b q'; CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has --format text)", new_conll="a X p\n\na X p\nb q\n"),
    case("CoNLL tabs and blanks", "train new.conll --out out", "new.conll, line 2: 1 column where the lines before have 2 (columns are separated by tabs): 'b q'", new_conll="a\tp\nb q\n"),
    case("CoNLL tokens only", "train new.conll --out out", "new.conll, read as CoNLL-style columns, has no column 'label' (the label). Its columns: 'sequence', 'token'", new_conll="a\nb\n"),
    case("CoNLL without tokens", "train new.conll --out out", "new.conll is empty: it has no line with a token", new_conll="\n# comment\n".replace("# comment", " ")),
    case("CoNLL of other columns", "predict CONLL new.conll --out out.conll", "new.conll, line 1: 4 columns, but the model was trained on 3, of which the last is the label; CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has --format text)", new_conll="a b c d\n"),
    case("CoNLL of a sentence", "predict CONLL new.conll --out out.csv", "new.conll: CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has --format text); this one seems to have a sentence a line …", new_conll="show me flights\n"),
    case("CoNLL of sentences with empty lines between", "evaluate CONLL new.conll", "new.conll: CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has --format text); this one seems to have a sentence a line …", new_conll="# two\nshow me flights\n\nlist all flights\n"),
    case("CoNLL of sentences to train on", "train new.conll --out out", "new.conll: CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has --format text); this one seems to have a sentence a line …", new_conll="show me\n\nall flights\n\n" * 9),
    # --- what the columns are
    train("no sequence named", "which rows of new.csv belong together? If a row is a time step, name the column that identifies them with --sequence (sequence='…'). If each row is a text, name its column with --text (text='…'); if each row is a sequence, give lists, or arrays. If the table is one long recording, --window STEPS (window=…) trains on windows of it, validates on blocks of time with a gap of a window between them and the training set, and predicts for the whole as one sequence", command="--label label"),
    train("windows of no step", "invalid value for '--window': 0 is not in the range x>=1.", command="--label label --window 0"),
    train("windows of a word", "invalid value for '--window': 'x' is not a whole number.", command="--label label --window x"),
    train("strides beyond windows", "training: stride must be at most window, which is 5, not 6: steps between windows would never be trained on", command="--label label --window 5 --stride 6"),
    train("strides without windows", "training: stride is the distance of windows, and has no effect without window", command=COLUMNS + " --stride 6"),
    train("windows longer than the recording", "--window (window=500) is longer than the longest sequence, which has …: choose a shorter window", command="--label label --window 500"),
    train("windows that leave nothing", "…steps are too few for a training and a validation set with labels, windows of 30 steps, and gaps of as many between the sets: choose a shorter window, set less aside, or give other sequences to validate on with --valid (valid=…)", command="--label label --window 30"),
    train("windows of labels by sequence", "--window (window=2) trains on windows of sequences whose steps have answers of their own, but the task is sequence-label: leave it out, or say what is meant with --task step-label", command=COLUMNS + " --window 2 --task sequence-label", content="id,t,x,label\n" + "".join(f"{i},{t},{t},{'pq'[i % 2]}\n" for i in range(6) for t in range(4))),
    train("no label named", "which column of new.csv is to be predicted? Name it with --label (label='…')", command="--sequence id"),
    train("no such sequence", f"new.csv has no column 'ID' (the sequence of each row). Did you mean 'id'? {NAMES}", command="--sequence ID --label label"),
    train("no such label", f"new.csv has no column 'labels' (the label). Did you mean 'label'? {NAMES}", command="--sequence id --label labels"),
    train("no such order", f"new.csv has no column 'time' (the order within a sequence). {NAMES}", command="--sequence id --label label --order time"),
    train("no such feature", f"new.csv has no column 'words' (a feature). Did you mean 'word'? {NAMES}", command=COLUMNS + " --features x,words"),
    train("no such code", f"new.csv has no column 'y' (a feature). {NAMES}", command=COLUMNS + " --categorical y"),
    train("label among the features", "column 'label' is the label, so it cannot be a feature as well", command=COLUMNS + " --features x,label"),
    train("sequence among the features", "column 'id' is the sequence, so it cannot be a feature as well", command=COLUMNS + " --features id"),
    train("label as the sequence", "the sequence, the label and the order are different columns, but one is named twice", command="--sequence label --label label"),
    train("spelling of numbers", "spelling=True, but new.csv has no feature that is text, whose spelling could count", command=COLUMNS + " --features x --spelling"),
    train("code that is no feature", "column 'word' is to be categorical, but is not among the features: 'x'", command=COLUMNS + " --features x --categorical word"),
    train("nothing to predict from", "new.csv has no column left to predict from…", "id,label\n1,p\n1,q\n", "--sequence id --label label"),
    train("a table with commas read by semicolons", "new.csv has no column 'id' (the sequence of each row). Did you mean 'id,t'? Its columns: 'id,t', 'x', 'label'", '"id,t";x;label\n1;2;3\n', "--sequence id --label label"),
    # --- what the cells are
    train("non-numeric cell", "new.csv, line 20: 'oops' in column 'x' is not a number, as 40 other cells of it are; correct it, leave the cell empty, name it with --missing, or treat the column as text with --categorical x", with_row("s99,1,oops,a,p")),
    train("infinity", "new.csv, line 20: 'inf' in column 'x' is infinite; give a finite number, or leave the cell empty", with_row("s99,1,inf,a,p")),
    train("minus infinity", "new.csv, line 20: '-Infinity' in column 'x' is infinite; give a finite number, or leave the cell empty", with_row("s99,1,-Infinity,a,p")),
    train("number too large", "new.csv, line 20: '1e999' in column 'x' is infinite; give a finite number, or leave the cell empty", with_row("s99,1,1e999,a,p")),
    train("decimal comma", "new.csv, line 2: '0,5' in column 'x' has a decimal comma; write a point, read it with --decimal ',', or treat the column as text with --categorical x", "id;x;label\n1;0,5;p\n1;1,5;q\n", "--sequence id --label label"),
    train("dates", "column 'd' of new.csv holds dates or times, which are no features as they are; use it as the order (--order d), convert it to numbers such as the seconds since the start or the hour, or leave it out (--drop d)", "id,d,label\n1,2024-01-01,p\n1,2024-01-02,q\n", "--sequence id --label label"),
    case("dates in Parquet", "train new.parquet --sequence id --label label --out out", "column 'd' of new.parquet holds dates or times, …", new_parquet=parquet("SELECT 1 AS id, DATE '2024-01-01' AS d, i AS label FROM range(2) AS t(i)")),
    train("one class", "new.csv has …labels of at least two classes are needed to learn the difference", TRAIN.replace(",q\n", ",p\n")),
    train("one class and none", "new.csv has …labels of at least two classes are needed to learn the difference", TRAIN.replace(",q\n", ",\n")),
    train("no label at all", "new.csv has no label in column 'label': …", TRAIN.replace(",q\n", ",\n").replace(",p\n", ", \n")),
    train("a quantity as the label", "new.csv, line 2: column 'y' holds numbers with fractions, such as 0.5. Are they quantities (--task step-quantity or sequence-quantity) or labels (--task step-label or sequence-label)?", "id,x,y\n" + "".join(f"1,{i},{i + 0.5}\n" for i in range(1001)), "--sequence id --label y"),
    train("missing sequence", "new.csv, line 20: the cell in column 'id', the row's sequence, is missing", with_row(",1,2,a,p")),
    train("repeated key", "new.csv, line 20: sequence 's0' has t '2' a second time, after line 4", with_row("s0,2,2,a,p")),
    train("repeated key written otherwise", "new.csv, line 20: sequence 's0' has t '2.0' a second time, after line 4", with_row("s0,2.0,2,a,p")),
    train("scattered sequence", "new.csv, line 20: sequence 's0' is not contiguous: it continues after rows of another one; sort the file, or name the column that gives the order (--order)", with_row("s0,9,2,a,p"), "--sequence id --label label"),
    train("missing order", "new.csv, line 20: the cell is missing in column 't', which gives the order of the rows", with_row("s0,,2,a,p")),
    train("order that is none", "new.csv, line 20: 'later' is neither a number nor a date in column 't', which gives the order of the rows", with_row("s0,later,2,a,p")),
    # --- the table to judge by
    case("no such table to judge by", f"train train.csv {COLUMNS} --valid nothing.csv --out out", "there is no file nothing.csv"),
    case("feature not in the table to judge by", f"train train.csv {COLUMNS} --valid new.csv --out out", "new.csv has no column 'word' (a feature of the model). Its columns: 'id', 't', 'x', 'label'", new_csv="id,t,x,label\n1,2,3,p\n"),
    case("new label in the table to judge by", f"train train.csv {COLUMNS} --valid new.csv --out out", "new.csv, line 2: the label 'r' is unknown to the model: it is none of the classes 'p', 'q'", new_csv="id,t,x,word,label\n1,2,3,a,r\n"),
    case("no label in the table to judge by", f"train train.csv {COLUMNS} --valid new.csv --out out", "new.csv has no label in column 'label'", new_csv="id,t,x,word,label\n1,2,3,a,\n"),
    # --- using a model on a table
    evaluate("most labels unknown", "new.csv, line 3: the label 'r' is unknown to the model: it is none of the classes 'p', 'q'", HEADER + "1,1,1,a,p\n1,2,1,a,r\n1,3,1,a,s\n"),
    evaluate("no label column", "new.csv has no column 'label' (the label). Its columns: 'id', 't', 'x', 'word'", "id,t,x,word\n1,1,1,a\n"),
    evaluate("no labels", "new.csv has no label in column 'label'", HEADER + "1,1,1,a,\n"),
    predict("feature not there", "new.csv has no column 'word' (a feature of the model). Did you mean 'words'? Its columns: 'id', 't', 'x', 'words'", "id,t,x,words\n1,1,1,a\n"),
    predict("sequence not there", "new.csv has no column 'id' (the sequence of each row). Its columns: 't', 'x', 'word'", "t,x,word\n1,1,a\n"),
    predict("order not there", "new.csv has no column 't' (the order within a sequence). Its columns: 'id', 'x', 'word'", "id,x,word\n1,1,a\n"),
    predict("text instead of numbers", "new.csv, line 3: 'oops' in column 'x' is not a number; correct it, or leave the cell empty", "id,t,x,word\n1,1,1,a\n1,2,oops,a\n"),
    predict("infinity in a new table", "new.ndjson, line 2: '1e999' in column 'x' is infinite; give a finite number, or leave the cell empty", '{"id": 1, "t": 1, "x": 0, "word": "a"}\n{"id": 1, "t": 2, "x": 1e999, "word": "a"}\n', "ndjson"),
    predict("number out of reach", "new.csv, line 2: '1e300' in column 'x' is too far from the values of the training rows", "id,t,x,word\n1,1,1e300,a\n"),
    predict("list among numbers", "new.ndjson, line 2: '[1]' in column 'x' is not a number; correct it, or leave the cell empty", '{"id": 1, "t": 1, "x": 1, "word": "a"}\n{"id": 1, "t": 2, "x": [1], "word": "a"}\n', "ndjson"),
    predict("lists of different lengths", "new.ndjson, line 2: column 'word' has a list of 1 step, but another column's has 2: the lists of one row are one sequence", '{"t": [1], "x": [1], "word": ["a"]}\n{"t": [1], "x": [1, 2], "word": ["a"]}\n', "ndjson"),
    case("lists of lists", "predict MODEL new.ndjson --out out.ndjson", "new.ndjson, line 2, step 1: '[1,2]' in column 'x' is not a number; correct it, or leave the cell empty", new_ndjson='{"t": [1], "x": [1], "word": ["a"]}\n{"t": [1], "x": [[1, 2]], "word": ["a"]}\n'),
    predict("lists as CSV", "cannot write out.csv: in new.ndjson each row is a sequence with lists of steps, which CSV cannot hold; use .parquet or .ndjson", '{"t": [1], "x": [1], "word": ["a"]}\n', "ndjson"),
    case("lists of different lengths in Parquet", "train new.parquet --label label --features x --out out", "new.parquet, row 2: column 'label' has a list of 2 steps, but another column's has 3: the lists of one row are one sequence", new_parquet=parquet("SELECT [i, 2 + i] AS label, [1, 2, i][: 2 + i] AS x FROM range(2) AS t(i)")),
    case("lists beside none of their length", "train new.parquet --label label --out out", "new.parquet has no column left to predict from with a value for each time step: 0 feature(s); its columns: 'label', 'x'", new_parquet=parquet("SELECT [i, 2 + i] AS label, [1] AS x FROM range(2) AS t(i)")),
    case("lists of dates", "train new.parquet --label label --out out", "column 'd' of new.parquet holds dates or times, …", new_parquet=parquet("SELECT [i, 2 + i] AS label, [DATE '2024-01-01', DATE '2024-01-02'] AS d FROM range(2) AS t(i)")),
    predict("empty new table", "new.csv is empty: it has no row", "id,t,x,word\n"),
    predict("predicted already", "new.csv has a column 'predicted' already: rename it, since it would be replaced", "id,t,x,word,predicted\n1,1,1,a,p\n"),
    case("override of a column that is not there", "evaluate MODEL train.csv --label truth", f"train.csv has no column 'truth' (the label). {NAMES}"),
    # --- files that are no models
    case("no such model", "evaluate nothing train.csv", "there is no model file nothing"),
    case("a folder as the model", "evaluate folder.csv train.csv", "folder.csv is a folder, not a model file"),
    case("a table as the model", "evaluate train.csv train.csv", "train.csv is not a bilstm model (it is not a safetensors file)"),
    model("empty model", "new is empty, so it is not a model file", b""),
    model("model cut within its weights", "new is damaged or was not written completely (…", cut(0.99)),
    model("model cut within its header", "new is damaged or was not written completely (it ends within its header)", cut(0.1)),
    model("model cut to a few bytes", "new is not a bilstm model (it is not a safetensors file)", cut(0.0005)),
    model("foreign safetensors", "new is a safetensors file, but not a bilstm model", safetensors({"format": "pt"})),
    model("safetensors without metadata", "new is a safetensors file, but not a bilstm model", safetensors(None)),
    model("pickle", "new is not a bilstm model (it is not a safetensors file)", b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    model("header that claims 8 EB", "new is not a bilstm model (it is not a safetensors file)", struct.pack("<Q", 2**63) + b"{}"),
    model("newer format", "new was written by a newer bilstm (format 9; this version reads 2): upgrade with `pip install --upgrade bilstm`", safetensors({"bilstm": '{"format": 9, "kind": "tagger"}'})),
    model("another kind", "new holds a sequential network without the columns that it reads: open it with bilstm.load_model, or train a model with `bilstm train` or an estimator", hostile(kind="sequential")),
    model("no columns", "new is not a valid model: the model is damaged: its columns are not an object", hostile(schema=None)),
    model("classes that are no list", "new is not a valid model: the model is damaged: its task have no valid 'classes'", hostile(task__classes=7)),
    model("more classes than outputs", "new is not a valid model: its network does not fit its columns", hostile(task__classes=["p", "q", "r"])),
    model("vocabulary longer than the embedding", "new is not a valid model: its network does not fit its columns", hostile(schema__categorical__0__vocabulary=["a", "b", "c", "d", "e"])),
    model("no numeric column", "new is not a valid model: its network does not fit its columns", hostile(schema__numeric=[])),
    model("scale of nought", "new is not a valid model: the model is damaged: its numeric columns have no valid 'scale'", hostile(schema__numeric__0__scale=0)),
    model("no network", "new is not a valid model: it describes no model", hostile(network=None)),
    model("network of no layers", "new is not a valid model: its layers need 0 weights, but it holds …", hostile(network__layers=[])),
    model("layer of an unknown class", "new is not a valid model: unknown layer 'os.system'", hostile(network__layers__0__class_name="os.system")),
    model("layer without class", "new is not a valid model: a layer is described by its class_name and config, not by {}", hostile(network__layers__0={})),
    model("layers that are text", "new is not a valid model: its layers or features are missing", hostile(network__layers="LSTM")),
    model("a billion units", "new is not a valid model: its layers need 8,000,000,…", hostile(network__layers__2__config__layer__config__units=10**9)),
    model("units of 10**30", "new is not a valid model: its layers need 8,000,000,…", hostile(network__layers__2__config__layer__config__units=10**30)),
    model("negative units", "new is not a valid model: LSTM: units must be at least 1, not -1", hostile(network__layers__2__config__layer__config__units=-1)),
    model("a vocabulary of a billion", "new is not a valid model: its layers need 24,000,000,…", hostile(network__layers__0__config__vocabularies=[10**9])),
    model("no training summary", "new is not a valid model: the record of its training is missing", hostile(training=None)),
    model("training summary without an end", "new is not a valid model: the record of its training is damaged", hostile(training__stopped=None)),
    model("training summary of no epoch", "new is not a valid model: the record of its training is damaged", hostile(training__best_epoch=0)),
    model("training history too short", "new is not a valid model: the record of its training is damaged", hostile(training__history__loss=[])),
    model("training history of text", "new is not a valid model: the record of its training is damaged", hostile(training__history__val_loss=["low"])),
    model("baseline that is a number", "new is not a valid model: its baseline is not an object", hostile(baseline=7)),
    model("baseline without a network", "new is not a valid model: it describes no model", hostile(baseline__network=None)),
    case("inspect a text", "inspect new", "new is not a bilstm model (it is not a safetensors file)", new=TRAIN),
    case("inspect a table without such a column", "inspect train.csv --sequence person", f"train.csv has no column 'person' (the sequence of each row). {NAMES}"),
    case("inspect a table that is none", "inspect new.csv", "new.csv, line 3: 1 cell, but the header names 2 columns", new_csv="a,b\n1,2\n3\n"),
    case("inspect nothing", "inspect nothing", "there is no model file nothing"),
    case("inspect a damaged model", "inspect new", "new is not a valid model: its network does not fit its columns", new=hostile(task__classes=["p", "q", "r"])),
    case("inspect a damaged network", "inspect new", "new is not a valid model: it describes no model", new=hostile(kind="sequential", model=None)),
    # --- what is to be written
    case("output in no folder", f"train train.csv {COLUMNS} --out nowhere/out", "cannot write nowhere/out: the folder nowhere does not exist"),
    case("output a folder", f"train train.csv {COLUMNS} --out folder.csv", "cannot write folder.csv: it is a folder; give the name of a file"),
    case("output the input", f"train train.csv {COLUMNS} --out train.csv", "cannot write train.csv: it is being read; give another name"),
    case("output the input by another name", f"train train.csv {COLUMNS} --out ./folder.csv/../train.csv", "cannot write ./folder.csv/../train.csv: it is being read; give another name"),
    case("output another table", f"train train.csv {COLUMNS} --out valid.csv", "valid.csv exists and is not a bilstm model: give another name, or replace it with --force", valid_csv=TRAIN),
    case("output the table to judge by", f"train train.csv {COLUMNS} --valid valid.csv --out valid.csv", "cannot write valid.csv: it is being read; give another name", valid_csv=TRAIN),
    case("output a device", f"train train.csv {COLUMNS} --out /dev/null", "cannot write /dev/null: it is not an ordinary file"),
    case("output with too long a name", f"train train.csv {COLUMNS} --out {'n' * 300}", f"cannot write {'n' * 300}: file name too long"),
    case("output below a file", f"train train.csv {COLUMNS} --out train.csv/out", "cannot write train.csv/out: the folder train.csv does not exist"),
    case("checkpoint in no folder", f"train train.csv {COLUMNS} --out out --checkpoint nowhere/c", "cannot write nowhere/c: the folder nowhere does not exist"),
    case("checkpoint over the table", f"train train.csv {COLUMNS} --out out --checkpoint train.csv", "cannot write train.csv: it is being read; give another name"),
    case("checkpoint over another file", f"train train.csv {COLUMNS} --out out --checkpoint c --resume", "c is not a bilstm model (it is not a safetensors file)", c="something else"),
    case("checkpoint over a model", f"train train.csv {COLUMNS} --out out --checkpoint c", "c is a model, not a checkpoint: give another name", c=hostile()),
    case("checkpoint of a training not gone on with", f"train train.csv {COLUMNS} --out out --checkpoint c", "c holds an unfinished training: continue it with --resume, or start anew with --force", c=hostile(kind="checkpoint")),
    case("checkpoint of nothing", f"train train.csv {COLUMNS} --out out --checkpoint c --resume --quiet", "c is damaged (it does not say to which training it belongs)", c=hostile(kind="checkpoint", training=None)),
    case("checkpoint of another training", f"train train.csv {COLUMNS} --out out --checkpoint c --resume --quiet", "c belongs to another training (the sequence column: 'key' in the file, 'id' now): give the same, or remove it to start anew", c=hostile(kind="checkpoint", training={"the task": "step-label", "the sequence column": "key"})),
    case("checkpoint as a model", "predict c train.csv --out out.csv", "c holds an unfinished training, not a model: finish it with --resume first", c=hostile(kind="checkpoint")),
    case("log in no folder", f"train train.csv {COLUMNS} --out out --log nowhere/log", "cannot write nowhere/log: the folder nowhere does not exist"),
    case("log over the table", f"train train.csv {COLUMNS} --out out --log train.csv", "cannot write train.csv: it is being read; give another name"),
    case("embedding of numbers", f"train train.csv {COLUMNS} --features x --out out --embedding 4", "embedding has no effect: there are no words or categories to embed; leave it out"),
    case("judged by what is trained on", f"train train.csv {COLUMNS} --out out --valid ./train.csv", "TABLE and --valid are the same file, ./train.csv: give each its own sequences"),
    case("log over another file", f"train train.csv {COLUMNS} --out out --log notes", "notes exists and is not a log of training: give another name, or replace it with --force", notes="something else"),
    # --- sequences, several labels and quantities
    case("no such task", "train train.csv --out out --task label", "invalid value for '--task': 'label' is not one of 'step-label', 'step-labels', 'step-quantity', 'sequence-label', 'sequence-labels', 'sequence-quantity'."),
    case("no such tokens", "train train.csv --out out --text word --tokens letters", "invalid value for '--tokens': 'letters' is not one of 'words', 'compounds', 'characters'."),
    case("tokens of no text", f"train train.csv {COLUMNS} --out out --tokens characters", "tokens say what the steps of a text are: name its column with --text (text='…')"),
    case("a text that is no column", "train train.csv --label label --text words --out out", "train.csv has no column 'words' (the text). Did you mean 'word'? Its columns: 'id', 't', 'x', 'word', 'label'"),
    case("a text without words", "train new.csv --label y --text a --out out", "new.csv, line 3: the text in column 'a' has no words: give it some, or leave the row out", new_csv="a,y\nb,1\n ,0\n"),
    case("pooling of steps", f"train train.csv {COLUMNS} --out out --pooling max", "pooling has no effect: it is for tasks with one answer for each sequence; leave it out"),
    case("no such pooling", "train train.csv --out out --pooling min", "invalid value for '--pooling': 'min' is not one of 'mean', 'max', 'attention', 'last'."),
    case("a convolution that is none", f"train train.csv {COLUMNS} --out out --conv 64", "training: conv must be filters x kernel size, such as '64x5', or several of them, '64x5+64x3', not '64'"),
    case("a convolution of steps by themselves", f"train train.csv {COLUMNS} --out out --conv 4x3 --direction none", "with direction 'none' no step knows the others, which a convolution reads: leave conv out"),
    case("the last step of steps by themselves", f"train new.csv {SEQUENCES} --out out --pooling last --direction none", "with direction 'none' no step knows the others: pool by mean, max or attention, not last", new_csv=ANSWERS),
    case("calibration without a validation set", f"train train.csv {COLUMNS} --out out --quiet --validation-split 0 --calibrate", "probabilities are calibrated on the validation set, and there is none: leave out calibrate, or set sequences aside with validation_split"),
    case("calibration of quantities", "train new.csv --sequence id --label z --task sequence-quantity --out out --quiet --calibrate", "calibrate is for probabilities, but quantities are predicted: leave it out", new_csv=ANSWERS),
    case("class weights of quantities", "train new.csv --sequence id --label z --task sequence-quantity --out out --quiet --class-weight balanced", "class_weight is for labels, but quantities are predicted", new_csv=ANSWERS),
    case("class weights of several labels", "train new.csv --sequence id --label a,b --out out --quiet --class-weight balanced", "class_weight is for one label at a time, but here there are several labels", new_csv=ANSWERS),
    case("labels of what has no sequences", "train new.parquet --features x --label y --labels labels.csv --out out", "labels.csv has labels by sequence, so name the column of new.parquet that identifies sequences (--sequence)", new_parquet=parquet("SELECT [1.0, 2.0] AS x"), labels_csv="id,y\n1,a\n"),
    case("a weight that is no number", f"train train.csv {COLUMNS} --out out --quiet --class-weight p=nan", "class_weight must be finite numbers from 0, not {'p': nan}"),
    case("labels without a sequence", "train train.csv --labels l.csv --out out", "which rows of train.csv belong together? If a row is a time step, name the column that identifies them with --sequence…", l_csv="id,y\ns1,a\n"),
    case("a validation table without labels", f"train train.csv {COLUMNS} --valid v.csv --out out", "v.csv has no label in column 'label'", v_csv=HEADER + "s0,0,1,a,\n"),
    case("sequences that would be named like predictions", "predict SEQUENCES new.csv --sequence predicted --out out.csv", "new.csv has a column 'predicted' already: rename it, since it would be replaced", new_csv="predicted,u\n1,1\n"),
    case("labels of other sequences", "train train.csv --sequence id --order t --drop label --labels labels.csv --out out", "none of the sequences of train.csv is in column 'id' of labels.csv: the first are '1' there and 's0' here", labels_csv="id,y\n1,a\n"),
    case("labels without the sequences", "train train.csv --sequence id --order t --drop label --labels labels.csv --out out", "labels.csv has no column 'id' (the sequence of each row). Its columns: 'y'; is ',' what separates its cells? Say otherwise with --delimiter", labels_csv="y\na\n"),
    case("labels of which there are several", "train train.csv --sequence id --order t --drop label --labels labels.csv --out out", "which column of labels.csv is the label? Name it with --label: 'id', 'y', 'z'", labels_csv="id,y,z\ns1,a,b\n"),
    case("two labels for a sequence", "train train.csv --sequence id --order t --drop label --labels labels.csv --out out", "labels.csv, line 3: sequence 's1' has a second label", labels_csv="id,y\ns1,a\ns1,b\n"),
    case("labels of sequences for steps", "train train.csv --sequence id --order t --drop label --labels labels.csv --task step-label --out out", "labels.csv has one row for each sequence, which does not go with the task 'step-label'", labels_csv="id,y\ns1,a\ns2,b\n"),
    case("validation labels of no validation table", f"train train.csv {COLUMNS} --valid-labels labels.csv --out out", "valid_labels are the labels of a validation table: name that as well, with --valid (valid=…)", labels_csv="id,y\ns1,a\n"),
    case("model over the labels", "train train.csv --sequence id --labels l.csv --out l.csv", "cannot write l.csv: it is being read; give another name", l_csv="id,y\ns1,a\n"),
    case("a feature dropped and named", f"train train.csv {COLUMNS} --features x --drop x --out out", "column 'x' is named among the features and among those to drop"),
    case("dropped and not there", f"train train.csv {COLUMNS} --drop y --out out", f"train.csv has no column 'y' (to drop). {NAMES}"),
    case("several labels that are words", "train train.csv --sequence id --label word,label --out out", "column 'word' of train.csv is not a number in every row: several target columns are labels of 0 and 1, or quantities"),
    case("probabilities of quantities", "predict QUANTITIES new.csv --out out.csv --probabilities", "--probabilities gives the probabilities of labels, but the model predicts quantities", new_csv=ANSWERS),
    case("the likeliest quantities", "predict QUANTITIES new.csv --out out.csv --top 2", "--top is for one label at a time, but the model's task is sequence-quantity", new_csv=ANSWERS),
    case("events of quantities", "predict QUANTITIES new.csv --out out.csv --events", "--events is for labels of time steps, but the model's task is sequence-quantity", new_csv=ANSWERS),
    case("events of sequences", "predict SEQUENCES new.csv --out out.csv --events", "--events is for labels of time steps, but the model's task is sequence-label", new_csv=ANSWERS),
    case("the likeliest of several labels", "predict SEVERAL new.csv --out out.csv --top 2", "--top is for one label at a time, but the model's task is sequence-labels", new_csv=ANSWERS),
    case("events of several labels", "predict SEVERAL new.csv --out out.csv --events --background p", "--events is for labels of time steps, but the model's task is sequence-labels", new_csv=ANSWERS),
    case("sequences as CoNLL", "predict SEQUENCES new.csv --out out.conll", "cannot write out.conll: predictions for sequences are a table of their own; use .csv, .parquet or .ndjson", new_csv=ANSWERS),
    case("scored events of sequences", "evaluate SEQUENCES new.csv --events 1", "events are runs of equal labels of time steps, but the task is sequence-label", new_csv=ANSWERS),
    case("scored events of quantities", "evaluate QUANTITIES new.csv --events 1", "events are runs of equal labels of time steps, but the task is sequence-quantity", new_csv=ANSWERS),
    case("labels of sequences for a model of steps", "evaluate MODEL train.csv --labels l.csv --label y", "l.csv has one row for each sequence, but the model labels time steps", l_csv="id,y\ns1,p\n"),
    case("labels of sequences of another name", "evaluate SEQUENCES new.csv --labels l.csv", "l.csv has no column 'y' (the label). Its columns: 'id', 'k'", new_csv=ANSWERS, l_csv="id,k\n0,b\n"),
    case("fewer targets than the model has", "evaluate SEVERAL new.csv --label a", "the model has 2 target columns, so label must name 2, not 1", new_csv=ANSWERS),
    case("groups that are not there", "evaluate MODEL train.csv --group who", f"train.csv has no column 'who' (the group of each sequence). {NAMES}"),
    case("a table without labels", "evaluate SEQUENCES new.csv", "new.csv has no label in column 'y'", new_csv="id,u,y\n1,1,\n"),
    case("a label that changes", "evaluate SEQUENCES new.csv", "the label in column 'y' changes within 1 sequence of new.csv: line 3. All rows of a sequence share one label", new_csv="id,u,y\n1,1,b\n1,1,c\n"),
    compare("nothing to vary", "there is nothing to compare: 1 variant of the network", "--vary units=3"),
    compare("unknown option to vary", "--vary unit=1,2: 'unit' cannot vary. Did you mean 'units'? What can: …", "--vary unit=1,2"),
    compare("seed to vary", "--vary seed=1,2: 'seed' cannot vary. What can: …", "--vary seed=1,2"),
    compare("vary without values", "--vary units: say which values, as in --vary direction=forward,both", "--vary units"),
    compare("vary with no value", "--vary units=: say which values, as in --vary direction=forward,both", "--vary units="),
    compare("vary with a wrong value", "--vary units=1,many: units must be a whole number, not 'many'", "--vary units=1,many"),
    compare("vary with a value out of range", "training: dropout must be at least 0 and below 1, not 1.0", "--vary dropout=0,1"),
    compare("vary with an unknown direction", "training: direction must be one of 'both', 'forward', 'backward', 'none', not 'left'", "--vary direction=both,left"),
    compare("vary with an unknown cell", "training: cell must be one of 'lstm', 'gru', 'simple', not 'rnn'", "--vary cell=gru,rnn"),
    compare("vary with an infinite rate", "training: learning_rate must be a positive number, not inf", "--vary learning_rate=1,inf"),
    compare("vary twice", "--vary units=4,5: units varies already; give all of its values together", "--vary units=2,3 --vary units=4,5"),
    compare("set and varied", "units varies, so it cannot have one value as well: leave it out, or vary something else", "--vary units=2,3 --units 4"),
    compare("set and compared by default", "direction varies, so it cannot have one value as well: leave it out, or vary something else", "--direction both"),
    compare("embeddings of numbers to vary", "embedding has no effect: there are no words or categories to embed; leave it out", "--vary embedding=2,3 --features x --quiet"),
    compare("units to vary and to choose", "units cannot vary where they are chosen to make all variants equally large", "--vary units=2,3 --same-size"),
    compare("nothing left to train on", "validation_split and test_split together are 1.2: nothing is left to train on", "--validation-split 0.6 --test-split 0.6"),
    compare("no part to validate on", "validation_split must be above 0: variants are compared on sequences that are set aside", "--validation-split 0"),
    compare("no part to score by", "test_split must be above 0: variants are compared on sequences that are set aside", "--test-split 0"),
    compare("too few to score by", "only 1 labelled sequence set aside, too few for a validation set and a test set: set more aside, or give test sequences of their own", "--validation-split 0.1 --test-split 0.01"),
    compare("a test table and a share", "test is a set of its own, so test_split has no effect: leave one out", "--test other.csv --test-split 0.3", other_csv=TRAIN),
    compare("a table to validate on and a share", "valid is a set of its own, so validation_split has no effect: leave one out", "--valid other.csv --validation-split 0.3", other_csv=TRAIN),
    compare("too few groups to part", "only 1 group set aside, too few for a validation set and a test set: set more aside, or give test sequences of their own", "--group word --quiet", train_csv=HEADER + "".join(f"s{i},0,1,{'ab'[i % 2]},{'pq'[i % 2]}\n" for i in range(8))),
    compare("tested on what is trained on", "TABLE and --test are the same file, ./train.csv: give each its own sequences", "--test ./train.csv"),
    compare("tested on what is validated on", "--valid and --test are the same file, other.csv: give each its own sequences", "--test other.csv --valid other.csv", other_csv=TRAIN),
    compare("an unknown label in the test table", "other.csv, line 2: the label 'r' is unknown to the model: it is none of the classes 'p', 'q'", "--test other.csv", other_csv=HEADER + "s0,0,1,a,r\n"),
    compare("no such test table", "there is no file tests.csv", "--test tests.csv"),
    compare("a picture of no format", "cannot write a picture as out.gif: the ending must be .png, .svg or .pdf", "--out out.gif"),
    case("report in no folder", "evaluate MODEL train.csv --report nowhere/r.html", "cannot write nowhere/r.html: the folder nowhere does not exist"),
    case("report over the table", "evaluate MODEL train.html --report train.html", "cannot write train.html: it is being read; give another name", train_html=TRAIN),
    case("report that is no page", "evaluate MODEL train.csv --report report.pdf", "cannot write a report as report.pdf: its name must end in .html"),
    case("report of another background", "evaluate MODEL train.csv --report r.html --events 1 --background O", "the background 'O' is not one of the model's 2 labels. They are 'p', 'q'"),
    case("predictions in no folder", "predict MODEL train.csv --out nowhere/out.csv", "cannot write nowhere/out.csv: the folder nowhere does not exist"),
    case("predictions over the table", "predict MODEL train.csv --out train.csv", "cannot write train.csv: it is being read; give another name"),
    case("predictions of no format", "predict MODEL train.csv --out out.xls", "out.xls has an unknown format (.xls): a table's name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll"),
    case("decimal comma to predict", "predict MODEL new.csv --out out.csv", "new.csv, line 2: '0,5' in column 'x' has a decimal comma; write a point, or read it with --decimal ','", new_csv="id;t;x;word\n1;0;0,5;a\n1;1;1;a\n"),
    case("decimal comma to evaluate", "evaluate MODEL new.csv", "new.csv, line 3: '-1,5e3' in column 'x' has a decimal comma; write a point, or read it with --decimal ','", new_csv="id;t;x;word;label\n1;0;5;a;p\n1;1;-1,5e3;a;q\n"),
    *[
        case(f"predictions over another {name}", f"predict MODEL train.csv --out {name}", f"{name} exists and is not a file of predictions: give another name, or replace it with --force", **{name.replace(".", "_"): content})
        for name, content in {"o.csv": "id,t\n1,2\n", "o.tsv": "\n", "o.parquet": "text", "o.ndjson": '{"x": 1}\n', "o.jsonl": "[", "p.csv": "predictedness\n1\n", "e.csv": "sequence,start,end,label\n"}.items()
    ],
    case("predictions over a table of words", "predict CONLL new.conll --out o.conll", "o.conll exists and is not a file of predictions: give another name, or replace it with --force", new_conll="a\nb\n", o_conll="a\tp\n"),
    case("predictions of a stream over another file", "predict MODEL - --out o.ndjson", "o.ndjson exists and is not a file of predictions: give another name, or replace it with --force", o_ndjson="text"),
    case("a report over another page", "evaluate MODEL train.csv --report o.html", "o.html exists and is not a report that bilstm wrote: give another name, or replace it with --force", o_html="<html></html>"),
    case("force without a report", "evaluate MODEL train.csv --force", "--force says that the --report may replace any file: it needs --report"),
    case("predictions as CoNLL", "predict MODEL train.csv --out out.conll", "cannot write out.conll: only a CoNLL file can be written as one; use .csv, .parquet or .ndjson"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train.csv`, `train.conll` and the models trained on them."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "train.csv").write_text(TRAIN)
    (folder / "train.conll").write_text(CONLL)
    (folder / "answers.csv").write_text(ANSWERS)
    trainings = {
        "MODEL": f"train.csv {COLUMNS}",
        "CONLL": "train.conll",
        "SEQUENCES": f"answers.csv {SEQUENCES}",
        "SEVERAL": "answers.csv --sequence id --label a,b --features u",
        "QUANTITIES": "answers.csv --sequence id --label z --features u --task sequence-quantity",
    }
    for model, words in trainings.items():
        table, *columns = words.split()
        small = ["--units", "2", "--epochs", "1", "--quiet", "--out", str(folder / model)]
        result = CliRunner().invoke(commands, ["train", str(folder / table), *columns, *small])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def place(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder to work in."""
    shutil.copy(models / "train.csv", tmp_path)
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared(case: Case, models: Path, folder: Path) -> list[str]:
    """The command's arguments, once its files are there."""
    for name, content in case.files.items():
        if callable(content):
            content = content(models / "MODEL")
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return [
        str(models / word) if word.isupper() and (models / word).exists() else word for word in case.command.split()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(case: Case, status: int, output: str, errors: str) -> None:
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    expected = "bilstm: " + case.message
    if "…" in expected:
        start, _, end = expected.partition("…")
        assert lines[0].startswith(start)
        assert lines[0].endswith(end)
    else:
        assert lines[0] == expected
    assert status == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: Case, models: Path, place: Path) -> None:
    arguments = prepared(case, models, place)
    before = contents(place)
    result = CliRunner().invoke(commands, arguments)
    check(case, result.exit_code, result.stdout, result.stderr)
    assert contents(place) == before


THROUGH_THE_SHELL = [
    "unknown command",
    "empty file",
    "non-numeric cell",
    "model cut within its weights",
    "output a folder",
    "most labels unknown",
]


@pytest.mark.parametrize("case", [case for case in CASES if case.id in THROUGH_THE_SHELL])
def test_bad_input_through_the_shell(case: Case, models: Path, place: Path) -> None:
    arguments = prepared(case, models, place)
    before = contents(place)
    run = subprocess.run([sys.executable, "-m", "bilstm", *arguments], capture_output=True, text=True, check=False)
    check(case, run.returncode, run.stdout, run.stderr)
    assert contents(place) == before


def test_the_table_holds_every_case_once() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
    assert set(THROUGH_THE_SHELL) <= set(names)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_write_protected(models: Path, place: Path) -> None:
    place.chmod(0o500)
    try:
        result = CliRunner().invoke(commands, ["train", "train.csv", *COLUMNS.split(), "--out", "out"])
    finally:
        place.chmod(0o700)
    assert result.stderr == "bilstm: cannot write out: permission denied\n"
    assert result.exit_code == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_said(
    models: Path, place: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "bilstm", "evaluate", str(models / "MODEL"), "train.csv"]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (2, "bilstm: cannot write the standard output: no space left on device\n")


def test_a_closed_pipe_is_no_mistake(models: Path, place: Path) -> None:
    command = f"{sys.executable} -m bilstm evaluate {models / 'MODEL'} train.csv | true"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert run.stderr == ""


def test_a_defect_of_ours_is_not_passed_off_as_a_mistake(
    models: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("oh")

    monkeypatch.setattr("bilstm.data.reading.read_table", broken)
    arguments = ["evaluate", str(models / "MODEL"), "train.csv"]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 70
    assert result.stderr.startswith("bilstm: this should not have happened (KeyError: 'oh'); please report it")
    monkeypatch.setenv("BILSTM_TRACEBACK", "1")
    result = CliRunner().invoke(commands, arguments)
    assert isinstance(result.exception, KeyError)
