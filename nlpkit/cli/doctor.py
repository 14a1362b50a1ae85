"""``nlpkit doctor``: what this machine and installation can do."""

from nlpkit.cli.options import AsJson


def command(
    as_json: AsJson = False,
) -> None:
    """What this machine and installation can do.

    Lists Python, packages and their versions, processor, memory, GPU, disk, and whether torch, faiss and numba
    work here. Leaves with 0 when everything that is needed works, else with 1 and the line that mends it.

    Example: nlpkit doctor
    """
    import json

    from nlpkit import console
    from nlpkit.errors import NlpkitError
    from nlpkit.inference.doctor import examine

    rows = examine()
    broken = [row for row in rows if row.state == "broken"]
    if as_json:
        found = {"ok": not broken, "checks": [row._asdict() for row in rows]}
        console.write(json.dumps(found, indent=1) + "\n")
    else:
        console.table(((row.name, row.value, row.state) for row in rows), ("what", "found", "state"))
    if broken:
        raise NlpkitError(f"{broken[0].name}: {broken[0].value}; {broken[0].remedy}")
