"""``nlpkit generate``: continue a prompt, or many."""

from typing import Annotated, Any

import typer

from nlpkit.cli.options import Device
from nlpkit.errors import UsageError


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run or folder of a next-token language model.")
    ],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to continue; none or -: all of stdin.")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("-n", "--max-new-tokens", metavar="N", help="Stop after so many tokens.")
    ] = 100,
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Below 1 bolder choices are rarer; 0 is greedy.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(metavar="N", help="Draw from the likeliest K tokens; 0: all.")] = 50,
    top_p: Annotated[
        float, typer.Option(metavar="X", help="Draw from the likeliest tokens that hold this share.")
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            metavar="X", help="Draw from tokens with this share of the likeliest one's probability."
        ),
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(metavar="X", help="Above 1 tokens that stand in the text already are rarer.")
    ] = 1.0,
    beam: Annotated[
        int | None, typer.Option(metavar="N", help="Search with N beams; nothing is drawn by chance.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="STRING", help="End before this text (give it again for more of them)."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Continue each line or record of a file (-: stdin); prints jsonl."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal text.")] = 0,
    device: Device = "auto",
) -> None:
    """Continue a prompt: prints it and what follows, as it is made.

    Stops at the model's end-of-text token or before a --stop string. An empty prompt ("") starts a new document.
    With --prompts many are continued together, each as it would be alone: prints the record of each, in order, with
    "continuation", "tokens" and "ended" (end, stop or length).

    Example: nlpkit generate runs/clm 'The list' -n 40 --seed 1
    """
    from nlpkit.inference.generate import Sampling
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents

    how = Sampling(temperature, top_k, top_p, seed, min_p, repetition_penalty)
    if beam is not None and repetition_penalty != 1:
        raise UsageError("--repetition-penalty changes what is drawn; --beam draws nothing: leave one out")
    given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "stops": stop or []}
    if prompts is not None:
        if prompt is not None:
            raise UsageError("PROMPT and --prompts are both given; leave one out")
        found = read_documents([prompts])
        return _many(load_model(run, device), found, how, beam, given)
    if prompt is None or prompt == "-":
        prompt = "\n".join(d.text for d in read_documents(["-"], documents="file")).removesuffix("\n")
    _one(load_model(run, device), prompt, how, beam, given)


def _one(loaded: Any, prompt: str, how: Any, beams: int | None, given: dict[str, Any]) -> None:
    """Print a prompt and what follows."""
    from nlpkit import console
    from nlpkit.inference import beam
    from nlpkit.inference.generate import stream

    loaded.need("clm", verb="generate")  # before the prompt is printed
    if beams is not None:
        pieces = iter([beam.complete(loaded, prompt, beams, **given).text])
    else:
        pieces = stream(loaded, prompt, sampling=how, **given)
    console.write(prompt)
    for piece in pieces:
        console.write(piece)
        console.data_out().flush()
    console.write("\n")


def _many(loaded: Any, found: Any, how: Any, beams: int | None, given: dict[str, Any]) -> None:
    """Print a record for each prompt."""
    from itertools import tee

    from nlpkit import console
    from nlpkit.inference import beam
    from nlpkit.inference.generate import complete
    from nlpkit.text.records import json_line, record_of

    loaded.need("clm", verb="generate")
    kept, read = tee(found)  # both ends stay within one window of prompts of each other
    texts = (document.text for document in read)
    if beams is None:
        made = complete(loaded, texts, sampling=how, **given)
    else:
        made = (beam.complete(loaded, text, beams, **given) for text in texts)
    for one, document in zip(made, kept, strict=False):
        told = {"continuation": one.text, "tokens": one.tokens, "ended": one.ended}
        console.data_out().write(json_line({**record_of(document), **told}))
