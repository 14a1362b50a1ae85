"""``nlpkit standardize``: text in, standardized text out, one document for one."""

from typing import Annotated, Any

import typer

from nlpkit.cli.options import Documents, Errors, Force, InputFormat, Inputs, TextField
from nlpkit.errors import UsageError


def command(
    paths: Inputs = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Write to this file (.txt, .jsonl, .csv or .tsv, also .gz) instead of stdout.",
        ),
    ] = None,
    lower: Annotated[bool | None, typer.Option("--lower/--no-lower", help="Lower case.")] = None,
    accents: Annotated[
        bool | None, typer.Option("--strip-accents/--no-strip-accents", help="é becomes e.")
    ] = None,
    punct: Annotated[
        bool | None,
        typer.Option("--strip-punct/--no-strip-punct", help="Punctuation and symbols become spaces."),
    ] = None,
    collapse: Annotated[
        bool | None, typer.Option("--collapse-space/--no-collapse-space", help="Runs of space become one.")
    ] = None,
    form: Annotated[
        str | None, typer.Option(metavar="FORM", help="Unicode form: nfkc (default), nfkd, nfc, nfd or none.")
    ] = None,
    casefold: Annotated[
        bool, typer.Option("--casefold", help="Fold case (ß becomes ss) instead of lower case.")
    ] = False,
    mojibake: Annotated[
        bool,
        typer.Option("--fix-mojibake", help="Undo wrong decoding (Ã© becomes é); needs nlpkit[mojibake]."),
    ] = False,
    strip_html: Annotated[bool, typer.Option("--strip-html", help="Remove tags, resolve entities.")] = False,
    strip_urls: Annotated[bool, typer.Option("--strip-urls", help="Remove web addresses.")] = False,
    strip_digits: Annotated[bool, typer.Option("--strip-digits", help="Digits become spaces.")] = False,
    stopwords: Annotated[
        str | None,
        typer.Option(metavar="LANG|FILE", help="Remove stop words: en, de, fr, ..., or a file of words."),
    ] = None,
    stem: Annotated[
        str | None, typer.Option(metavar="LANG", help="Snowball stems: en, de, fr, porter, ...")
    ] = None,
    min_length: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Remove words of fewer characters.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="FILE", help="Take all steps from a TOML recipe.")
    ] = None,
    save_recipe: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the steps as a TOML recipe.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show token by token which step changed it.")
    ] = False,
    offsets: Annotated[
        bool,
        typer.Option(
            "--offsets", help="Write jsonl: each token with its bytes [start, end) of the raw text."
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, help="Processes (all cores); output does not depend on it."
        ),
    ] = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Normalize, lower, strip and stem text: a filter; n documents in, n out, in order.

    Without options: Unicode NFKC, lower case, no accents, no punctuation, single spaces.

    Example: printf 'Héllo, the World!\\n' | nlpkit standardize --stopwords en --stem en
    """
    from nlpkit.text import standardize_stream
    from nlpkit.text.recipe import Recipe

    switches: dict[str, Any] = {
        "lower": lower, "strip-accents": accents, "strip-punct": punct, "collapse-space": collapse,
        "form": form, "casefold": casefold, "fix-mojibake": mojibake, "strip-html": strip_html,
        "strip-urls": strip_urls, "strip-digits": strip_digits,
        "stopwords": stopwords, "stem": stem, "min-length": min_length,
    }  # fmt: skip
    if recipe is not None:
        given = [name for name, value in switches.items() if value not in (None, False)]
        if given:
            raise UsageError(f"--recipe has all the steps; leave out --{given[0]} or put it into {recipe}")
        made = Recipe.load(recipe)
    else:
        made = standardize_stream.recipe_of(switches)
    if save_recipe is not None:
        from nlpkit.store.atomic import refuse_existing

        made.save(refuse_existing(save_recipe, force))
    standardize_stream.standardize(
        paths or [],
        made,
        output,
        explain=explain,
        offsets=offsets,
        jobs=jobs,
        documents=documents,
        text_field=text_field,
        format=input_format,
        errors=errors,
        force=force,
    )
