"""``nlpkit train-tokenizer``: learn a vocabulary from text."""

from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, InputFormat, Inputs, TextField


def command(
    paths: Inputs = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")] = ...,  # type: ignore[assignment]
    kind: Annotated[str, typer.Option(metavar="KIND", help="bpe, wordpiece, unigram, word or char.")] = "bpe",
    vocab_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Ids in all, special tokens included.")
    ] = 8000,
    min_frequency: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Rarer pairs or words are left out (2; word, char: 1)."),
    ] = None,
    add_tokens: Annotated[
        str | None, typer.Option(metavar="LIST", help="Tokens never cut within, comma-separated.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="FILE", help="Standardize by this recipe, kept with the tokenizer.")
    ] = None,
    documents: Documents = "paragraph",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Learn a tokenizer; ids 0 to 5 are [PAD] [UNK] [CLS] [SEP] [MASK] <|endoftext|>.

    The folder opens in transformers (AutoTokenizer) and in every nlpkit verb.

    Example: nlpkit train-tokenizer corpus.txt.gz -o runs/tok --kind bpe --vocab-size 8000
    """
    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.documents import read_documents, required
    from nlpkit.text.recipe import Recipe
    from nlpkit.text.tokenizer import Tokenizer

    refuse_existing(output, force)
    steps = Recipe.load(recipe) if recipe is not None else Recipe()
    added = [token.strip() for token in add_tokens.split(",")] if add_tokens else []
    found = read_documents(
        paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
    )
    with console.progress("train-tokenizer", unit="characters") as bar:

        def passing():  # type: ignore[no-untyped-def]
            for document in required(found, paths or []):
                bar.advance(len(document.text))
                yield document.text

        made = Tokenizer.train(
            passing(),
            kind=kind,
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            add_tokens=added,
            recipe=steps,
        )
    made.save(output, force=force, notes={"documents": documents})
    console.note(f"{output}: {kind}, {made.vocab_size:,} tokens")
