"""``gristmill results``: what a batch has brought so far, in input order."""

from pathlib import Path

import click

from api.cli import flat, server_link
from api.cli.batches import server_option
from api.cli.outputs import Outputs


@click.command()
@click.argument("batch")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write here, and errors beside it.")
@click.option("--errors", is_flag=True, help="Print the lines that failed instead.")
@click.option("--flat", "form", type=click.Choice(flat.FORMATS), help="As a table of all lines; npy: embeddings.")
@click.option(
    "--join", type=click.Path(path_type=Path), metavar="INPUT", help="With --flat: add the requests of INPUT."
)
@server_option
def results(
    batch: str, out: Path | None, errors: bool, form: str | None, join: Path | None, server: str | None
) -> None:
    """Print the answers of BATCH, or write them to a file."""
    if form is None and join is not None:
        raise click.UsageError("--join adds a column to a table: say which with --flat.")
    if form is not None and errors:
        raise click.UsageError("--flat shows all lines, failed ones too: leave out --errors.")
    with server_link.connect(server) as client:
        found = client.batch(batch)
        if found.status not in ("completed", "failed", "expired", "cancelled"):
            click.echo(f"{batch} is {found.status}: more lines may come.", err=True)
        if form is not None:
            return flat.write(client, found, form, out and out.resolve(), join)
        if out is not None:
            outputs = Outputs(out=out.resolve())
            outputs.write(client, found)
            click.echo(f"results: {outputs.out}", err=True)
            return
        extension = found.gristmill
        with client.content(extension.error_file_id if errors else extension.output_file_id) as chunks:
            for chunk in chunks:
                click.echo(chunk, nl=False)
