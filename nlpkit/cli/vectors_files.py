"""The verbs of ``nlpkit vectors`` that write files: export, import, reduce, oov, plot."""

from collections.abc import Callable
from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, TextField
from nlpkit.errors import UsageError

Folder = Annotated[str, typer.Argument(metavar="VECTORS", help="A folder of word vectors.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The new folder of vectors.")]
FORMS = "word2vec, word2vec-bin, glove, npz or safetensors"


def export(
    folder: Folder,
    form: Annotated[str, typer.Option("--format", metavar="FORM", help=f"{FORMS}.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Text is compressed when it ends in .gz.")
    ],
    force: Force = False,
) -> None:
    """Write vectors as a file that other tools read; every bit is kept.

    Example: nlpkit vectors export runs/vectors --format word2vec -o vectors.txt.gz
    """
    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.vectors.exchange import export_vectors, known_form
    from nlpkit.vectors.vectors import Vectors

    known_form(form)
    refuse_existing(output, force)
    vectors = Vectors.load(folder)
    export_vectors(vectors, output, form)
    console.note(f"{output}: {len(vectors):,} words of size {vectors.width}")


def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Vectors; text may be compressed.")],
    output: Output,
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORM", help=f"{FORMS}; else by the content.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="FILE", help="How the text was standardized; none: words are used as given."
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and count bad rows; else one ends the import.")
    ] = False,
    force: Force = False,
) -> None:
    """Make a folder of vectors from the file of another tool (GloVe, word2vec, numpy, safetensors).

    Example: nlpkit vectors import glove.6B.100d.txt -o runs/glove-6b
    """
    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.recipe import Recipe
    from nlpkit.vectors.importing import import_vectors

    refuse_existing(output, force)
    steps = None if recipe is None else Recipe.load(recipe)
    made = import_vectors(file, output, form=form, recipe=steps, skip=skip_bad, force=force)
    if made["left_out"]:
        console.warn(f"{made['left_out']:,} rows were left out; the first: {made['why']}")
    console.note(f"{output}: {made['words']:,} words of size {made['size']} ({made['format']})")


def reduce(
    folder: Folder,
    output: Output,
    method: Annotated[
        str,
        typer.Option("--method", metavar="NAME", help="pca (with --size), or int8 (a quarter of the bytes)."),
    ],
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", help="Numbers a word that pca keeps.")
    ] = None,
    remove_top: Annotated[
        int,
        typer.Option(
            "--remove-top",
            metavar="N",
            min=0,
            help="pca: take off the mean and leave out the first N axes (Mu and Viswanath 2018).",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the sample of words.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    force: Force = False,
) -> None:
    """Make vectors smaller, and measure what is lost: variance, error, and neighbours of a sample of words.

    Example: nlpkit vectors reduce runs/vectors --method pca --size 50 -o runs/vectors-50
    """
    import json

    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.vectors.reduction import reduce_vectors
    from nlpkit.vectors.vectors import Vectors

    refuse_existing(output, force)
    vectors = Vectors.load(folder)
    made = reduce_vectors(
        vectors, output, method=method, size=size, remove=remove_top, seed=seed, force=force
    )
    if as_json:
        console.write(json.dumps(made) + "\n")
    else:
        console.table(
            [(name.replace("_", " "), str(value)) for name, value in made.items()], ["figure", "value"]
        )


def oov(
    folder: Folder,
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words that have no vector.")],
    contexts: Annotated[
        list[str],
        typer.Option("--contexts", metavar="FILE", help="Text with these words; - is stdin; repeatable."),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="A folder, the words added; else JSON lines."),
    ] = None,
    window: Annotated[
        int, typer.Option("--window", metavar="N", help="Words of a context, on either side.")
    ] = 10,
    documents: Documents = "line",
    text_field: TextField = "text",
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Vectors for unknown words from their contexts (à la carte, Khodak et al. 2018).

    The contexts hold known words too, many of them: they teach how a mean of contexts becomes a vector.

    Example: nlpkit vectors oov runs/vectors --contexts corpus.txt snollygoster
    """
    import json

    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.documents import read_documents
    from nlpkit.vectors import oov as induction
    from nlpkit.vectors.vectors import Vectors

    if output is not None:
        refuse_existing(output, force)
    elif force:
        raise UsageError("--force replaces an output folder; name it with -o")
    read = read_documents(contexts, documents=documents, text_field=text_field, errors=errors)
    vectors = Vectors.load(folder)
    found = induction.induce(vectors, (document.text for document in read), words, window=window)
    if output is not None:
        induction.add_words(vectors, found, output, force=force)
        console.note(f"{output}: {len(found.words):,} words added to {len(vectors):,}")
        return
    for word, count, row in zip(found.words, found.counts.tolist(), found.matrix, strict=True):
        vector = [float(str(number)) for number in row]
        console.write(json.dumps({"word": word, "count": count, "vector": vector}, ensure_ascii=False) + "\n")


def plot(
    folder: Folder,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="An svg, png or pdf file.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="- is stdin, split at spaces.")
    ] = None,
    analogy: Annotated[
        tuple[str, str, str, str] | None,
        typer.Option("--analogy", metavar="A B C D", help="Draw A to B and C to D as a parallelogram."),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option("--neighbours", metavar="N", min=0, help="Also the N nearest of each word, in grey."),
    ] = 0,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="pca, or tsne (at most 2,000 words).")
    ] = "pca",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of t-SNE.")] = 0,
    force: Force = False,
) -> None:
    """A map of words in two dimensions.

    Example: nlpkit vectors plot runs/vectors --analogy man king woman queen -o royal.svg
    """
    from nlpkit import console
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.compression import standard_input
    from nlpkit.vectors import plotting
    from nlpkit.vectors.vectors import Vectors

    refuse_existing(output, force)
    if words == ["-"] or not (words or analogy):
        words = standard_input().read().decode("utf-8-sig", "replace").split()
    plotting.plot_words(
        Vectors.load(folder),
        words or [],
        output,
        method=method,
        analogy=analogy,
        neighbours=neighbours,
        seed=seed,
    )
    console.note(f"{output}: a map of words by {method}")


VERBS: dict[str, Callable[..., None]] = {
    "export": export,
    "import": import_file,
    "reduce": reduce,
    "oov": oov,
    "plot": plot,
}
