"""The command line. Each command is imported when it is used, so that ``gristmill --help`` is quick."""

import importlib
import os
import sys
from importlib.metadata import version

import click
from typing_extensions import override

from api.cli import faults

COMMANDS = {
    "run": ("api.cli.run:run", "Run all requests in FILE and write the results."),
    "submit": ("api.cli.batches:submit", "Hand FILE to a server and print the id of its batch."),
    "watch": ("api.cli.watch:watch", "Show how BATCH goes until it ends."),
    "results": ("api.cli.results:results", "Print the answers of BATCH, or write them to a file."),
    "jobs": ("api.cli.jobs:jobs", "Show the lines of BATCH, and what was tried for each."),
    "usage": ("api.cli.usage:usage", "Show what calls used and cost, by day, model, provider, batch, key or owner."),
    "limits": ("api.cli.limits:limits", "Show the quotas that calls spend, who told them, and why calls wait."),
    "list": ("api.cli.batches:list_batches", "Show the newest batches."),
    "cancel": ("api.cli.batches:cancel", "Start no more calls of BATCH; keep what is done."),
    "pause": ("api.cli.batches:pause", "Start no more calls of BATCH until it is resumed."),
    "resume": ("api.cli.batches:resume", "Let a paused, held or capped BATCH go on."),
    "retry": ("api.cli.batches:retry", "Run the lines of BATCH again that did not succeed."),
    "extend": ("api.cli.batches:extend", "Give BATCH another time limit."),
    "webhooks": ("api.cli.webhooks:webhooks", "Show what the receivers of webhooks need to know."),
    "keys": ("api.cli.keys:keys", "Make, show, change and revoke API keys."),
    "delete": ("api.cli.deletion:delete", "Delete batches that have ended, with all their answers."),
    "prune": ("api.cli.prune:prune", "Delete what is old, and give its room back."),
    "serve": ("api.cli.serving:serve", "Serve the API, with everything it needs."),
    "providers": ("api.cli.providers:providers", "Show the providers, and keep their keys."),
    "doctor": ("api.cli.doctor:doctor", "Tell what is here and what is wrong; exit 1 if something is."),
    "worker": ("api.cli.serving:worker", "Run one more worker process."),
}


class _Lazy(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("gristmill"), prog_name="gristmill")
def cli() -> None:
    """Grind a JSONL of requests through any LLM provider: as fast as quotas allow, and no finished line twice."""


def main() -> None:
    """The console script. Status: 0 all lines succeeded, 1 some failed, 2 wrong usage, 3 stopped before the end."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except faults.CliError as error:
        click.echo(f"gristmill: {error}", err=True)
        sys.exit(error.status)
    except faults.Interrupted as error:
        _forget_output()
        sys.exit(128 + error.signal)
    except click.Abort:
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)


def _forget_output() -> None:
    """What a closed terminal or pipe did not take must not fail a second time when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
