"""``nlpkit corpus``: make, count, split, deduplicate, decontaminate and filter corpora."""

import math
from typing import Annotated, Any

import typer

from nlpkit.cli.options import (
    AsJson,
    Device,
    Documents,
    Errors,
    Force,
    IdField,
    InputFormat,
    Inputs,
    TextField,
)
from nlpkit.errors import UsageError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The file; none or - is standard output, in the form read."
    ),
]
Report = Annotated[
    str | None, typer.Option("--report", metavar="FILE", help="A jsonl line for each dropped document.")
]


@app.callback()
def corpus() -> None:
    """Make, count, split, deduplicate, decontaminate and filter corpora."""


@app.command("python")
def python(
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")] = ...,  # type: ignore[assignment]
    packages: Annotated[
        str | None, typer.Option(metavar="LIST", help="Installed packages to add, comma-separated.")
    ] = None,
    force: Force = False,
) -> None:
    """Python's own documentation as a corpus: docs.jsonl, made offline from this installation.

    Fields: id, title, text, summary, body, kind, module, source.

    Example: nlpkit corpus python -o corpora/python --packages numpy,typer
    """
    from nlpkit import console
    from nlpkit.text.python_docs import build

    names = [name.strip() for name in packages.split(",") if name.strip()] if packages else []
    count = build(output, names, force=force)
    console.note(f"{output}: {count:,} documents")


@app.command("stats")
def stats(
    paths: Inputs = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    json: AsJson = False,
) -> None:
    """Count documents, words, bytes and lengths.

    Example: nlpkit corpus stats corpora/python --json
    """
    from nlpkit import console
    from nlpkit.text import corpus as counting
    from nlpkit.text.documents import read_documents

    found = counting.stats(
        read_documents(
            paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
        )
    )
    if json:
        from json import dumps

        console.write(dumps(found) + "\n")
    else:
        console.table(counting.summary(found), ("what", "count"))


@app.command("split")
def split(
    paths: Inputs = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")] = ...,  # type: ignore[assignment]
    valid: Annotated[float, typer.Option(metavar="X", min=0, max=1, help="Share for valid.jsonl.")] = 0.05,
    test: Annotated[float, typer.Option(metavar="X", min=0, max=1, help="Share for test.jsonl.")] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives another split.")] = 0,
    documents: Documents = "line",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Split into train, valid and test.jsonl by a hash of the text: equal texts stay together.

    Example: nlpkit corpus split corpora/python -o corpora/python-split --valid 0.05 --test 0.05
    """
    from nlpkit import console
    from nlpkit.text import corpus as counting
    from nlpkit.text.documents import read_documents, required

    found = read_documents(
        paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
    )
    counts = counting.split(
        required(found, paths or [], "split"),
        output,
        valid=valid,
        test=test,
        seed=seed,
        force=force,
        notes={"unit": documents},
    )
    console.note(f"{output}: " + ", ".join(f"{part} {count:,}" for part, count in counts.items()))


def _print_counts(json: bool, output: str | None, counted: Any) -> None:
    """The counts, on standard output as JSON or on standard error in words."""
    from nlpkit import console

    if json:
        from json import dumps

        console.write(dumps(counted if isinstance(counted, dict) else counted.as_record()) + "\n")
    else:
        where = "" if output in (None, "-") else f"{output}: "
        console.note(where + counted.summary())


def _check_json(json: bool, output: str | None) -> None:
    if json and output in (None, "-"):
        raise UsageError("--json prints the counts to standard output; name a file for the documents with -o")


@app.command("dedup")
def dedup(
    paths: Inputs = None,
    output: Output = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Only equal texts; needs no extra library.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="Near duplicates: the least Jaccard similarity of shingles.")
    ] = 0.8,
    shingle: Annotated[int, typer.Option(metavar="N", min=1, help="Words of a shingle.")] = 5,
    report: Report = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    input_format: InputFormat = None,
    errors: Errors = "replace",
    json: AsJson = False,
    force: Force = False,
) -> None:
    """Drop documents that equal an earlier one, or nearly do (MinHash); the first stays.

    Case and spacing do not count. Memory for near duplicates: about 4 kB for each document kept, 100 bytes with
    --exact-only. They need the extra: pip install 'nlpkit[dedup]'.

    Example: nlpkit corpus dedup corpora/python -o once.jsonl --report gone.jsonl
    """
    from nlpkit.text.deduplicate import deduplicate

    _check_json(json, output)
    counted = deduplicate(
        paths or [],
        output,
        exact_only=exact_only,
        threshold=threshold,
        shingle=shingle,
        report=report,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        format=input_format,
        errors=errors,
        force=force,
    )
    _print_counts(json, output, counted)


@app.command("decontaminate")
def decontaminate(
    paths: Inputs = None,
    against: Annotated[
        list[str], typer.Option("--against", metavar="FILE", help="Evaluation texts; may be repeated.")
    ] = ...,  # type: ignore[assignment]
    output: Output = None,
    ngram: Annotated[int, typer.Option(metavar="N", min=1, help="Words of a shared run.")] = 13,
    min_contained: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Shorter evaluation texts are looked for within documents from so many words.",
        ),
    ] = 8,
    min_share: Annotated[
        float,
        typer.Option(
            metavar="X", min=0, max=1, help="Drop where at least this share of the words is shared."
        ),
    ] = 0.0,
    against_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The text field of the evaluation files, if another.")
    ] = None,
    against_documents: Annotated[
        str | None, typer.Option(metavar="UNIT", help="Their unit, line, paragraph or file, if another.")
    ] = None,
    report: Report = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    input_format: InputFormat = None,
    errors: Errors = "replace",
    json: AsJson = False,
    force: Force = False,
) -> None:
    """Drop documents that share a run of words with evaluation files, or equal one of their texts.

    Case, punctuation and spacing do not count.

    Example: nlpkit corpus decontaminate train.jsonl --against test.jsonl -o clean.jsonl
    """
    from nlpkit import console
    from nlpkit.text.decontaminate import decontaminate as run

    _check_json(json, output)
    counted, found = run(
        paths or [],
        against,
        output,
        ngram=ngram,
        min_contained=min_contained,
        min_share=min_share,
        against_field=against_field,
        against_documents=against_documents,
        report=report,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        format=input_format,
        errors=errors,
        force=force,
    )
    if json:
        return _print_counts(json, output, {**counted.as_record(), **found})
    _print_counts(json, output, counted)
    for name, one in found["against"].items():
        console.note(f"  {name}: {one['texts']:,} texts, {one['documents']:,} documents dropped")
    for one in found["examples"]:
        where = f"{one['against']} text {one['text_number']}"
        words = one["words"] if len(one["words"]) <= 80 else one["words"][:79] + "…"
        console.note(f"  e.g. {one.get('id') or one['number']}: {one['reason']}, {where}: {words}")


def _model_rule(
    model: str, label: str | None, min_score: float | None, max_perplexity: float | None, device: str
) -> Any:
    """The rule that --model stands for."""
    from nlpkit.errors import did_you_mean

    if (label is None) != (min_score is None) or (label is None) == (max_perplexity is None):
        raise UsageError("--model needs --label NAME with --min-score X (classifier) or --max-perplexity X")
    from nlpkit.inference.loading import load_model
    from nlpkit.text.quality import ModelRule

    loaded = load_model(model, device)
    if max_perplexity is not None:
        from nlpkit.inference.score import score

        most = max_perplexity
        loaded.need("clm", verb="--max-perplexity")
        return ModelRule(
            "max-perplexity",
            # A text without tokens is as unlikely as can be.
            lambda texts: (math.inf if x.perplexity is None else x.perplexity for x in score(loaded, texts)),
            lambda x: x <= most,
        )
    from nlpkit.inference.classify import classify

    loaded.need("classifier", verb="--label")
    if label not in loaded.labels:
        raise UsageError(f"--label {label!r} is none of {model}{did_you_mean(str(label), loaded.labels)}")
    name, least = label, min_score or 0.0
    return ModelRule(
        "min-score",
        lambda texts: (found.probabilities[name] for found in classify(loaded, texts)),
        lambda probability: probability >= least,
    )


@app.command("filter")
def filter_(
    paths: Inputs = None,
    output: Output = None,
    min_words: Annotated[int | None, typer.Option(metavar="N", min=0, help="Least words.")] = None,
    max_words: Annotated[int | None, typer.Option(metavar="N", min=0, help="Most words.")] = None,
    max_mean_word_length: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Most characters a word, on average (Gopher: 10)."),
    ] = None,
    max_symbol_ratio: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Most # and ... a word (Gopher: 0.1).")
    ] = None,
    max_repeated_lines: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="Largest share of repeated lines (Gopher: 0.3)."),
    ] = None,
    max_digit_share: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="Largest share of digits among the characters."),
    ] = None,
    min_alpha_share: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="Least share of words with a letter (Gopher: 0.8)."),
    ] = None,
    lang_stopwords: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Least different English stop words (Gopher: 2).")
    ] = None,
    match: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Must be found in the text; may be repeated.")
    ] = None,
    not_match: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Must not be found; may be repeated.")
    ] = None,
    field_equals: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A field's value; may be repeated.")
    ] = None,
    score_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="A number; probabilities.good reaches within.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(metavar="X", help="Least value of --score-field, or probability of --label."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Ask this classifier (--label) or next-token model (--max-perplexity)."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="The label whose probability is --min-score or more.")
    ] = None,
    max_perplexity: Annotated[
        float | None, typer.Option(metavar="X", min=1, help="Most perplexity under the next-token --model.")
    ] = None,
    device: Device = "auto",
    report: Report = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    input_format: InputFormat = None,
    errors: Errors = "replace",
    json: AsJson = False,
    force: Force = False,
) -> None:
    """Keep documents that pass every rule given; all rules are off by default.

    A drop is counted under the first rule that fails, in the order of this page; a model is asked last.

    Example: nlpkit corpus filter corpora/python -o long.jsonl --min-words 20
    """
    from nlpkit.text.quality import Rules, filter_corpus

    _check_json(json, output)
    rule = None
    if model is not None:
        if score_field is not None:
            raise UsageError("--model makes its own score; leave out --score-field or --model")
        rule = _model_rule(model, label, min_score, max_perplexity, device)
        min_score = None
    elif label is not None or max_perplexity is not None:
        raise UsageError("--label and --max-perplexity are asked of a model; name it with --model RUN")
    pairs = []
    for given in field_equals or []:
        name, equals, value = given.partition("=")
        if not name or not equals:
            raise UsageError(f"--field-equals {given!r}: write NAME=VALUE")
        pairs.append((name, value))
    rules = Rules(
        min_words=min_words,
        max_words=max_words,
        max_mean_word_length=max_mean_word_length,
        max_symbol_ratio=max_symbol_ratio,
        max_repeated_lines=max_repeated_lines,
        max_digit_share=max_digit_share,
        min_alpha_share=min_alpha_share,
        lang_stopwords=lang_stopwords,
        match=tuple(match or ()),
        not_match=tuple(not_match or ()),
        field_equals=tuple(pairs),
        score_field=score_field,
        min_score=min_score,
    )
    counted = filter_corpus(
        paths or [],
        rules,
        output,
        model=rule,
        report=report,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        format=input_format,
        errors=errors,
        force=force,
    )
    _print_counts(json, output, counted)
