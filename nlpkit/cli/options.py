"""Options that mean one thing in every verb: their names, metavars and help, written once."""

import re
from typing import Annotated

import typer

from nlpkit.errors import UsageError

Inputs = Annotated[
    list[str] | None, typer.Argument(metavar="IN", help="Files or folders; none or - is stdin.")
]
Documents = Annotated[
    str,
    typer.Option("--documents", metavar="UNIT", help="In text, a document is a line, a paragraph or a file."),
]
TextField = Annotated[
    str, typer.Option("--text-field", metavar="FIELD", help="The field of a record that holds its text.")
]
IdField = Annotated[
    str | None,
    typer.Option(
        "--id-field", metavar="FIELD", help="The field of a record that holds its id: else _id or id."
    ),
]
InputFormat = Annotated[
    str | None,
    typer.Option("--input-format", metavar="FORM", help="text, jsonl, csv, tsv or parquet; else by name."),
]
Errors = Annotated[
    str, typer.Option("--errors", metavar="WAY", help="Bytes that are not UTF-8: replace, skip or strict.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto (a GPU where there is one)."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="P",
        help="auto (bf16 where that is measured to be faster), fp32, bf16, or int8 (coarser).",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

# Of pretrain and train, which are one verb with two faces.
RunFolder = Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="The run's folder.")]
TrainTokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="DIR", help="Without it (and --from) one is trained on the texts."),
]
StartFrom = Annotated[
    str | None, typer.Option("--from", metavar="MODEL", help="Start from the weights of a run or folder.")
]
InitEmbeddings = Annotated[
    str | None,
    typer.Option(
        "--init-embeddings", metavar="DIR", help="Start the token embeddings from word vectors (train-glove)."
    ),
]
Valid = Annotated[
    str | None,
    typer.Option("--valid", metavar="FILE", help="Validation data; else a share of the data is held out."),
]
Configuration = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="CONFIG", help="A TOML file, or a recipe by its name."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Such as train.lr=1e-3.")
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="SIZE", help="At most this: wall time (90s, 2m, 1h), 5Mtok or 1e15flops."
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps of the optimizer.")]
TrainDocuments = Annotated[
    str | None,
    typer.Option(
        "--documents",
        metavar="UNIT",
        help="mlm, clm: in text, a document is a line, a paragraph (default) or a file.",
    ),
]
TrainSeed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Of weights, order, masks and dropout.")
]
TrainDevice = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or auto (default: auto)."),
]
Threads = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="Threads.")]
FromCheckpoint = Annotated[
    int | None,
    typer.Option(
        "--from-checkpoint", metavar="STEP", help="Go on from this checkpoint, not from the newest."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
StartOver = Annotated[bool, typer.Option("--force", help="Start the run over.")]

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def size_in_bytes(text: str, option: str) -> int:
    """The bytes that a size such as 4096, 512M or 1.5GiB means.

    :raises UsageError: it is no size; the message names the option.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(match[1]) * 2 ** _UNITS[match[2]]) if match else 0
    if size < 1:
        raise UsageError(f"{option} {text!r}: expected a size such as 512M or 4G")
    return size
