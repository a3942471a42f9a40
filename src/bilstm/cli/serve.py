"""`bilstm serve`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bilstm.cli.options import COUNT, FILE, POSITIVE, Number, WholeNumber, precision_option
from bilstm.console import say
from bilstm.errors import UserError


@click.command(short_help="Answer requests over HTTP with MODELs.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=WholeNumber(0, 65535), default=8000, show_default=True, help="The port; 0 for a free one.")
@click.option("--workers", type=WholeNumber(1, 256), default=1, show_default=True, help="Number of processes.")
@click.option("--threads", type=WholeNumber(1, 1024), help="Threads of each process. Default: one per CPU.")
@click.option("--max-body", metavar="MB", type=POSITIVE, default=16, show_default=True, help="Largest request.")
@click.option(
    "--max-steps", type=COUNT, default=200_000, show_default=True, help="Largest number of time steps in a request."
)
@click.option(
    "--queue", type=COUNT, default=512, show_default=True, help="Requests in work or waiting; others are refused."
)
@click.option(
    "--timeout", metavar="SECONDS", type=POSITIVE, default=30, show_default=True, help="Longest time for a request."
)
@click.option(
    "--batch-wait",
    metavar="MS",
    type=Number(0, 1000),
    default=0,
    show_default=True,
    help="Milliseconds that a request may wait for others, to be computed together with them.",
)
@click.option(
    "--api-key-file",
    type=FILE,
    help="A file with a key that every request must have. Default: the environment variable BILSTM_API_KEY, or none.",
)
@click.option("--no-page", is_flag=True, help="Do not serve the page to try models at /.")
@click.option("--no-examples", is_flag=True, help="Do not show the validation sequences that model files keep.")
@click.option("--no-watch", is_flag=True, help="Do not look for newer model files.")
@precision_option
@click.option("--quiet", is_flag=True, help="Log warnings and errors only.")
def serve(
    models: Sequence[str],
    host: str,
    port: int,
    workers: int,
    threads: int | None,
    max_body: float,
    max_steps: int,
    queue: int,
    timeout: float,
    batch_wait: float,
    api_key_file: str | None,
    no_page: bool,
    no_examples: bool,
    no_watch: bool,
    precision: str,
    quiet: bool,
) -> None:
    """Answer requests over HTTP with one or several MODELs, and serve a page to try them.

    A MODEL is a file, or a folder with versions of one, of which the newest by name is served. NAME=MODEL gives it
    another name. A newer file is served as soon as it is there, without losing a request. Ctrl-C ends the service once
    all requests are answered.
    """
    from bilstm.serving import Settings, run

    settings = Settings(
        models=tuple(models),
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        precision=precision,
        max_body=int(max_body * 1_000_000),
        max_steps=max_steps,
        queue=queue,
        timeout=timeout,
        batch_wait=batch_wait / 1000,
        api_key=_key(api_key_file),
        watch=0.0 if no_watch else 1.0,
        page=not no_page,
        examples=not no_examples,
        log=not quiet,
    )

    def announce(address: str, names: Sequence[str]) -> None:
        say([f"serving {', '.join(names)} at {address}; Ctrl-C ends it"], quiet)

    run(settings, announce)


def _key(path: str | None) -> str | None:
    import os

    from bilstm.files import check_readable

    if path is None:
        return os.environ.get("BILSTM_API_KEY") or None
    check_readable(path)
    key = Path(path).read_text("utf-8", "replace").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{path} is not a key: it needs one line of ASCII characters without blanks")
    return key
