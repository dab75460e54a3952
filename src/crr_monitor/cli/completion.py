"""``crr-monitor completion``: the script that teaches a shell to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from crr_monitor.cli.session import PROGRAM, example

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_CRR_MONITOR_COMPLETE"
"""click's own: the shell sets it when it asks for completions."""


@click.command("completion", epilog=example('eval "$(crr-monitor completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script for completion in a shell.

    To keep it, put the line below into ~/.bashrc (zsh: ~/.zshrc); for fish, write the output to
    ~/.config/fish/completions/crr-monitor.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click knows all of SHELLS
        message = f"click has no completion for {shell}"
        raise click.UsageError(message)
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
