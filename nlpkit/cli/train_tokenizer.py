"""``nlpkit train-tokenizer``: learn a vocabulary from text."""

from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, InputFormat, Inputs, TextField, size_in_bytes
from nlpkit.errors import UsageError


def command(
    paths: Inputs = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")] = ...,  # type: ignore[assignment]
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="bpe (default), wordpiece, unigram, word or char."),
    ] = None,
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
    byte_fallback: Annotated[
        bool, typer.Option("--byte-fallback", help="unigram: spell unknown characters in bytes; lossless.")
    ] = False,
    extend: Annotated[
        str | None,
        typer.Option(metavar="TOKENIZER", help="Learn more for this folder's tokenizer; its ids stay."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="FILE", help="Standardize by this recipe, kept with the tokenizer.")
    ] = None,
    documents: Documents = "paragraph",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Such as 2G: what is over is left out by a sample of documents."),
    ] = None,
    force: Force = False,
) -> None:
    """Learn a tokenizer; ids 0 to 5 are [PAD] [UNK] [CLS] [SEP] [MASK] <|endoftext|>.

    The folder opens in transformers (AutoTokenizer) and in every nlpkit verb.

    Example: nlpkit train-tokenizer corpus.txt.gz -o runs/tok --kind bpe --vocab-size 8000
    """
    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.recipe import Recipe
    from nlpkit.text.tokenizer import Tokenizer
    from nlpkit.text.training_texts import training_texts

    refuse_existing(output, force)
    steps = Recipe.load(recipe) if recipe is not None else Recipe()
    added = [token.strip() for token in add_tokens.split(",")] if add_tokens else []
    old = Tokenizer.load(extend) if extend is not None else None
    texts = training_texts(
        paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
    )
    with console.progress("train-tokenizer", unit="characters") as bar:

        def passing():  # type: ignore[no-untyped-def]
            for text in texts:
                bar.advance(len(text))
                yield text

        read = passing()
        if max_memory is not None:
            from nlpkit.text.memory_sample import within

            read = within(
                read, kind or (old.kind if old else "bpe"), size_in_bytes(max_memory, "--max-memory")
            )
        if old is not None:
            from nlpkit.text.tokenizer_extension import extend_tokenizer

            if byte_fallback:
                raise UsageError("--byte-fallback: --extend keeps what the tokenizer does; leave it out")
            made = extend_tokenizer(
                old,
                read,
                vocab_size=vocab_size,
                kind=kind,
                min_frequency=min_frequency,
                add_tokens=tuple(added),
                recipe=steps,
            )
        else:
            made = Tokenizer.train(
                read,
                kind=kind or "bpe",
                vocab_size=vocab_size,
                min_frequency=min_frequency,
                add_tokens=added,
                recipe=steps,
                byte_fallback=byte_fallback,
            )
    made.save(output, force=force, notes={"documents": documents})
    before = f", {old.vocab_size:,} of them as before" if old is not None else ""
    console.note(f"{output}: {made.kind}, {made.vocab_size:,} tokens{before}")
