"""``nlpkit detokenize``: token ids back to text."""

from typing import Annotated

import typer

from nlpkit.cli.options import Force


def command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="IN", help="Lines of ids; none or - is stdin.")
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

    Reads lines of numbers, or the records of tokenize --format jsonl.

    Example: nlpkit tokenize notes.txt --tokenizer runs/tok | nlpkit detokenize --tokenizer runs/tok
    """
    from nlpkit.text import tokenize_stream
    from nlpkit.text.tokenizer import Tokenizer

    tokenize_stream.detokenize(paths or [], Tokenizer.load(tokenizer), output, special=special, force=force)
