"""`gatemeter local`: the embedded system, kept running for trying things."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from gatemeter.cli.demo.metadata import drafts
from gatemeter.cli.demo.trace import TraceMissing, data_folder
from gatemeter.cli.embedded.broker import BrokerNotReady
from gatemeter.cli.embedded.children import ChildEnded
from gatemeter.cli.embedded.signals import ended_in_order, until_ctrl_c
from gatemeter.cli.embedded.system import Embedded, Wanted, embedded_system
from gatemeter.cli.one_line import errors
from gatemeter.cli.screen import screen
from gatemeter.sinks.local.launcher import LaunchFailed

GATEWAYS: Final = {"my-gateway": "inference_proxy"}
_FAILURES: Final = (TraceMissing, ChildEnded, BrokerNotReady, LaunchFailed)
_screen: Final = screen(soft_wrap=True)


def local(
    workers: Annotated[int, typer.Option(min=1, max=12, help="Worker processes.")] = 2,
    clickhouse_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of ClickHouse on the loopback interface; 0: any free one.")
    ] = 0,
) -> None:
    """Run broker, ClickHouse and workers on this machine until Ctrl-C; everything is in memory and then forgotten.

    Tenants and prices are those of examples/; one gateway, my-gateway, is registered.

    Example: gatemeter local --clickhouse-port 8123
    """
    try:
        wanted = Wanted(workers, GATEWAYS, drafts(data_folder()), clickhouse_port)
        with ended_in_order(), embedded_system(wanted, lambda text: _screen.print(f"• {text}")) as system:
            _screen.print(_explained(system), markup=False)
            until_ctrl_c(system.children)
    except _FAILURES as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error


def _explained(system: Embedded) -> str:
    clickhouse = system.clickhouse
    shell = system.shell_file("my-gateway", GATEWAYS["my-gateway"])
    trace: Path = data_folder() / "azure-llm-2023" / "code.csv"
    return f"""
Running until Ctrl-C; keys and data are then deleted.

  Kafka        {system.bootstrap}
  ClickHouse   {clickhouse.url}   user {clickhouse.user}   password {clickhouse.password}
  Keys, logs   {system.folder}

In another shell, so that commands and hooks find all of this:
  . {shell}

Emit something:
  gatemeter emit {trace} --speed max --tenant engineering --app ide-assistant

Look at it:
  gatemeter report
  gatemeter explain --from 2026-01-01 --limit 3
  gatemeter audit
  curl '{clickhouse.url}/?database=gatemeter' -H 'X-ClickHouse-User: {clickhouse.user}' \\
    -H 'X-ClickHouse-Key: {clickhouse.password}' -d 'SELECT * FROM chargeback_hourly FORMAT Vertical'

Change tenants and prices:
  gatemeter tenants apply {data_folder()}/tenants.yaml
"""
