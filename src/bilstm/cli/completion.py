"""`bilstm completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which a SHELL completes commands, options and names of files.

    \b
    In ~/.bashrc:                      eval "$(bilstm completion bash)"
    In ~/.zshrc, after compinit:       eval "$(bilstm completion zsh)"
    In ~/.config/fish/config.fish:     bilstm completion fish | source
    """
    script = get_completion_class(shell)
    assert script is not None
    root = click.get_current_context().find_root().command
    click.echo(script(root, {}, "bilstm", "_BILSTM_COMPLETE").source())
