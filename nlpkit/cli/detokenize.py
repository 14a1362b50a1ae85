"""``nlpkit detokenize``: token ids back to text."""

from typing import Annotated

import typer

from nlpkit.cli.options import Force


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Lines of ids or shards (.npy, .bin); none or - is stdin."),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="DIR", help="The tokenizer the ids were made with.")
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write to this file instead of stdout."),
    ] = None,
    special: Annotated[bool, typer.Option("--special", help="Show special tokens too.")] = False,
    force: Force = False,
) -> None:
    """Token ids back to text: a filter, a line of text for each line of ids.

    Reads lines of numbers, the records of tokenize --format jsonl, and the shards of --format npy and bin.

    Example: nlpkit tokenize notes.txt --tokenizer runs/tok | nlpkit detokenize --tokenizer runs/tok
    """
    from nlpkit.text import detokenize_stream
    from nlpkit.text.tokenizer import Tokenizer

    detokenize_stream.detokenize(paths or [], Tokenizer.load(tokenizer), output, special=special, force=force)
