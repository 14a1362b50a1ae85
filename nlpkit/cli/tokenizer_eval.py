"""``nlpkit tokenizer-eval``: how well a tokenizer fits a text."""

from typing import Annotated

import typer


def command(
    tokenizer: Annotated[str, typer.Argument(metavar="DIR", help="A tokenizer's or model's folder.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[IN]...", help="Files or folders; none or - is stdin.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="DIR", help="Another tokenizer, over the same text.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap of --against.")] = 0,
    documents: Annotated[
        str, typer.Option(help="In text, a document is a line, paragraph or file.")
    ] = "line",
    text_field: Annotated[str, typer.Option(help="The text field of records.")] = "text",
    input_format: Annotated[
        str | None, typer.Option(help="text, jsonl, csv or tsv; else by the file's name.")
    ] = None,
    errors: Annotated[str, typer.Option(help="Not UTF-8: replace, skip or strict.")] = "replace",
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fertility, bytes a token, unknown rate, Rényi efficiency, unused vocabulary, round trip of all documents.

    Example: nlpkit tokenizer-eval runs/tok held-out.txt --against runs/other-tok
    """
    from nlpkit import console
    from nlpkit.text import tokenizer_quality as quality
    from nlpkit.text.documents import read_documents, required
    from nlpkit.text.tokenizer import Tokenizer

    both = [Tokenizer.load(folder) for folder in (tokenizer, against) if folder is not None]
    read = read_documents(
        paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
    )
    found = quality.evaluate(required(read, paths or []), *both, seed=seed)
    if json:
        from json import dumps

        console.write(dumps(found, ensure_ascii=False) + "\n")
        return
    console.table(quality.rows(found), ("figure", tokenizer, *([against] if against else [])))
    if "fertility_difference" in found:
        apart = found["fertility_difference"]
        console.write(
            f"fertility, {tokenizer} less {against}: {apart['value']:+.4f} "
            f"(95 % interval {apart['low']:+.4f} to {apart['high']:+.4f})\n"
        )
    for key, name in (("tokenizer", tokenizer), ("against", against)):
        for broken in found.get(key, {}).get("round_trip", {}).get("first_breaks", []):
            console.write(
                console.visible(
                    f"{name}: document {broken['document']}: "
                    f"{broken['expected']!r} came back as {broken['got']!r}"
                )
                + "\n"
            )
