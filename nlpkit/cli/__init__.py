"""The command line: ``nlpkit VERB …``. One file a verb; only the verb that was asked for is imported.

A verb's file holds ``command`` (a function for typer) or ``app`` (a group of sub-verbs). Both parse, call a plain
function and print. Nothing here imports torch, transformers, faiss, numpy or numba.
"""

import atexit
import gc
import os
import sys
from importlib import import_module
from typing import Any

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "the whole chain on Python's own documentation: raw text to semantic search"),
    "corpus": ("corpus", "make, count, split and clean corpora"),
    "standardize": ("standardize", "normalize, strip, stem text: a filter"),
    "train-tokenizer": ("train_tokenizer", "learn a BPE, WordPiece, unigram, word or character tokenizer"),
    "tokenize": ("tokenize", "text to token ids: a filter"),
    "detokenize": ("detokenize", "token ids back to text: a filter"),
    "tokenizer-eval": ("tokenizer_eval", "fertility, compression and round trip of a tokenizer"),
    "vectorize": ("vectorize", "one-hot, count, tf-idf and BM25 matrices of words and n-grams"),
    "train-glove": ("train_glove", "learn GloVe word vectors"),
    "vectors": ("vectors", "nearest words and analogies"),
    "pretrain": ("pretrain", "train a masked or next-token language model from text"),
    "fill-mask": ("fill_mask", "the likeliest words for <MASK>"),
    "generate": ("generate", "continue a prompt"),
    "score": ("score", "how likely texts are: loss, perplexity, bits per byte, minimal pairs"),
    "train": ("train", "train any model of the registry"),
    "eval": ("evaluate", "measure a run or an index"),
    "classify": ("classify", "a label and its probability for each line"),
    "embed": ("embed", "a vector for each line"),
    "index": ("index", "build and change a search index"),
    "search": ("search", "ask an index: exact words, meaning, or both"),
    "sample": ("sample", "draw from a generative model"),
    "verify": ("verify", "read every byte of an artefact and compare it with its seal"),
    "models": ("models", "the models that can be trained"),
    "runs": ("runs", "list, show, compare and draw training runs"),
    "inspect": ("inspect", "what a model is made of, and what it does with a text"),
    "doctor": ("doctor", "what this machine and installation can do"),
}
ANYWHERE = {"--debug": "debug", "--quiet": "quiet", "-q": "quiet"}


def _stub(name: str) -> Any:
    def verb() -> None:
        raise AssertionError(name)

    return verb


def _application(only: str | None = None) -> Any:
    """The typer application: with one verb loaded, with bare names for ``--help``, or (completion) with all."""
    import typer

    app = typer.Typer(
        name="nlpkit",
        help="From raw text to a trained model and a working semantic search, offline.",
        epilog="Anywhere on the line: --quiet (-q) says nothing but data and errors, --debug shows tracebacks. "
        "Example: zcat corpus.gz | nlpkit standardize | nlpkit tokenize --tokenizer runs/tok | head -1",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        add_completion=only is None,
    )

    def version(value: bool) -> None:
        if value:
            from nlpkit import __version__

            typer.echo(f"nlpkit {__version__}")
            raise typer.Exit()

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=version, is_eager=True, help="Print it and leave."
        ),
    ) -> None:
        pass

    full = only == "*"
    for name, (module, summary) in VERBS.items():
        if name == only or full:
            loaded = import_module(f"nlpkit.cli.{module}")
            if hasattr(loaded, "app"):
                app.add_typer(loaded.app, name=name, help=summary)
            else:
                app.command(name)(loaded.command)
        elif only is None:
            app.command(name, help=summary)(_stub(name))
    return app


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave with the documented exit code."""
    # Threads that spin while they wait make a shared machine several times slower than one thread alone; threads that
    # sleep at once take half as long again on one that is not. GNU's library, which is that of Linux, spins briefly.
    if sys.platform != "linux":
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if sys.argv[1:2] in (["search"], ["index"]):
        # numpy's products are small there, and torch has its own threads
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Looking for garbage among what imports leave behind, again and again, is a sixth of a short run's time.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)  # nor is it worth looking for at the end
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run one command line; the exit code. Every failure is one line on stderr."""
    from nlpkit import console

    flags = {flag: False for flag in ANYWHERE.values()}
    ended = argv.index("--") if "--" in argv else len(argv)
    kept = []
    for i, word in enumerate(argv):
        if i < ended and word in ANYWHERE:
            flags[ANYWHERE[word]] = True
        else:
            kept.append(word)
    console.set_quiet(flags["quiet"])
    try:
        code = invoke(kept)
        sys.stdout.flush()
        return code
    except BaseException as failure:
        if flags["debug"] and not isinstance(failure, BrokenPipeError | SystemExit):
            import traceback

            traceback.print_exc()
        return _explain(failure)
    finally:
        console.set_quiet(False)


def invoke(argv: list[str]) -> int:
    """Run one command line; what fails is raised."""
    from nlpkit.errors import NothingToRead, UsageError, did_you_mean

    verb = next((word for word in argv if not word.startswith("-")), None)
    completing = "_NLPKIT_COMPLETE" in os.environ
    if verb is not None and verb not in VERBS and not completing:
        raise UsageError(f"no verb {verb!r}{did_you_mean(verb, VERBS)}")
    app = _application("*" if completing else verb)
    before, sys.argv = sys.argv, [sys.argv[0], *argv]  # what runs and locks record as their command
    try:
        result = app(args=argv, prog_name="nlpkit", standalone_mode=completing)
    except NothingToRead as failure:
        if verb is not None:
            app(args=[verb, "--help"], prog_name="nlpkit", standalone_mode=False)
        raise failure
    finally:
        sys.argv = before
    return result if isinstance(result, int) else 0


def _explain(failure: BaseException) -> int:
    """Print the one line that a failure deserves; its exit code."""
    from nlpkit import console, errors

    if isinstance(failure, SystemExit) and isinstance(failure.__context__, BrokenPipeError):
        failure = failure.__context__  # typer turns a broken pipe into exit 1
    if isinstance(failure, SystemExit):
        return failure.code if isinstance(failure.code, int) else 1
    if isinstance(failure, BrokenPipeError):
        # The reader left: nothing more to say. Point stdout away so that the interpreter's last flush is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(failure, KeyboardInterrupt):
        return 130
    if isinstance(failure, errors.NlpkitError):
        console.error(str(failure))
        return failure.exit_code
    code = getattr(failure, "exit_code", None)
    if isinstance(code, int) and type(failure).__module__.startswith("typer"):
        if hasattr(failure, "format_message"):
            context = getattr(failure, "ctx", None)
            where = context.command_path if context is not None else "nlpkit"
            text = failure.format_message().rstrip(".") or "nothing was asked for"
            if type(failure).__name__ == "NoArgsIsHelpError":
                sys.stderr.write(failure.format_message() + "\n")
            else:
                console.error(f"{text} (see: {where} --help)")
        return code
    if isinstance(failure, OSError):
        mapped = errors.from_os_error(failure)
        console.error(str(mapped))
        return mapped.exit_code
    if (
        isinstance(failure, MemoryError)
        or type(failure).__name__ == "OutOfMemoryError"
        or (
            isinstance(failure, RuntimeError)
            and "can't allocate memory" in str(failure)  # torch on the processor
        )
    ):
        console.error("out of memory; use a smaller batch, model or --max-memory")
        return errors.OutOfMemory.exit_code
    if isinstance(failure, ModuleNotFoundError):
        console.error(f"{failure.name} is not installed; run: pip install {failure.name}")
        return errors.UsageError.exit_code
    console.error(f"{type(failure).__name__}: {failure} (a fault of nlpkit's own; --debug shows where)")
    return 1
