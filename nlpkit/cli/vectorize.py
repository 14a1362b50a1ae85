"""``nlpkit vectorize``: documents to a document-term matrix."""

from typing import Annotated

import typer


def command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[IN]...", help="Files or folders; none or - is stdin.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="NAME.npz, NAME.svm or NAME.jsonl; - is stdout.")
    ] = ...,  # type: ignore[assignment]
    mode: Annotated[str, typer.Option(help="one-hot, multi-hot, count, tf-idf or bm25.")] = "count",
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="DIR", help="Count this tokenizer's tokens.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Count the words of this recipe (standardize's default)."),
    ] = None,
    analyzer: Annotated[
        str | None, typer.Option(help="word, or char: n-grams of characters (default: word).")
    ] = None,
    ngrams: Annotated[
        str | None, typer.Option(metavar="N|N-M", help="Runs of so many words are terms (default: 1).")
    ] = None,
    vocab_size: Annotated[int | None, typer.Option(min=1, help="Keep the most frequent terms.")] = None,
    min_df: Annotated[
        int | None, typer.Option("--min-df", min=1, help="Keep terms of so many documents or more.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="FILE", help="Use the columns of this NAME.vocab.json.")
    ] = None,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="A last column for all terms without their own.")
    ] = False,
    format: Annotated[
        str | None, typer.Option(help="npz, svmlight or jsonl; else by the output's name.")
    ] = None,
    label_field: Annotated[
        str | None,
        typer.Option("--label-field", metavar="FIELD", help="svmlight: the field of records with the label."),
    ] = None,
    documents: Annotated[
        str, typer.Option(help="In text, a document is a line, paragraph or file.")
    ] = "line",
    text_field: Annotated[str, typer.Option(help="The text field of records.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="The id field of records (_id or id).")] = None,
    input_format: Annotated[
        str | None, typer.Option(help="text, jsonl, csv, tsv or parquet; else by name.")
    ] = None,
    errors: Annotated[str, typer.Option(help="Not UTF-8: replace, skip or strict.")] = "replace",
    force: Annotated[bool, typer.Option("--force", help="Replace existing output.")] = False,
) -> None:
    """Documents to a matrix: a row a document (one-hot: a token), a column a term, one weight a cell.

    The .npz opens with scipy.sparse.load_npz; beside it lie NAME.vocab.txt (term and document frequency, a line a
    column) and NAME.vocab.json (what made it). tf-idf is scikit-learn's; bm25 is search's: rows times a query of
    zeros and ones are scores. svmlight columns count from 1; labels that are text get numbers, kept in
    NAME.vocab.json.

    Example: nlpkit vectorize train.jsonl -o train.npz --mode tf-idf --ngrams 1-2 --min-df 2
    """
    from nlpkit import console
    from nlpkit.text import vectorize as plain
    from nlpkit.text.recipe import Recipe
    from nlpkit.text.tokenizer import Tokenizer
    from nlpkit.text.vocabulary import Vocabulary, words_of

    known = None if vocabulary is None else Vocabulary.load(vocabulary)
    words = None
    if known is None or tokenizer or recipe or analyzer:
        words = words_of(
            recipe=None if recipe is None else Recipe.load(recipe),
            tokenizer=None if tokenizer is None else Tokenizer.load(tokenizer),
            analyzer=analyzer or "word",
        )
    made = plain.vectorize(
        paths or [],
        output,
        mode=mode,
        format=format,
        words=words,
        ngrams=None if ngrams is None else plain.ngram_range(ngrams),
        vocab_size=vocab_size,
        min_df=min_df,
        unknown=unknown,
        vocabulary=known,
        label_field=label_field,
        force=force,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        input_format=input_format,
        errors=errors,
    )
    console.note(f"{output}: " + ", ".join(f"{count:,} {what}" for what, count in made.items()))
