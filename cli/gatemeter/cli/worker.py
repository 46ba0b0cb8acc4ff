"""`gatemeter worker`: one worker process, set by the environment."""

from __future__ import annotations

import typer

from gatemeter.cli.screen import screen


def worker() -> None:
    """Run one worker; start as many as you like, up to the number of partitions. Settings: docs/operating.md.

    Example: GATEMETER_BOOTSTRAP=kafka:9092 GATEMETER_SECRETS_FILE=secrets.json
    GATEMETER_OPERATOR_KEYS_FILE=operators.json gatemeter worker
    """
    from gatemeter.processors.settings import SettingsError, load_settings, prepare_process

    prepare_process()
    try:
        settings = load_settings()
    except SettingsError as error:
        screen(stderr=True, soft_wrap=True).print(str(error), markup=False)
        raise typer.Exit(2) from error
    from gatemeter.processors.worker import leave, run_worker  # after prepare_process: it imports polars

    leave(run_worker(settings))
