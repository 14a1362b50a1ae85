"""``nlpkit generate``: continue a prompt."""

from typing import Annotated

import typer

from nlpkit.cli.options import Device


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
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal text.")] = 0,
    device: Device = "auto",
) -> None:
    """Continue a prompt: prints it and what follows, as it is made.

    Stops at the model's end-of-text token. An empty prompt ("") starts a new document.

    Example: nlpkit generate runs/clm 'The list' -n 40 --seed 1
    """
    from nlpkit import console
    from nlpkit.inference.generate import Sampling, stream
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents

    how = Sampling(temperature, top_k, top_p, seed)
    if prompt is None or prompt == "-":
        prompt = "\n".join(d.text for d in read_documents(["-"], documents="file")).removesuffix("\n")
    loaded = load_model(run, device)
    loaded.need("clm", verb="generate")  # before the prompt is printed
    pieces = stream(loaded, prompt, max_new_tokens=max_new_tokens, sampling=how)
    console.write(prompt)
    for piece in pieces:
        console.write(piece)
        console.data_out().flush()
    console.write("\n")
