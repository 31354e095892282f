"""``cloudbaker catalog events``."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cloudbaker.cli.catalog.paging import page_options, print_page, say_more
from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Moment

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef


@click.command()
@click.option("--asset", help="Of this asset.")
@click.option("--tenant", default="local", show_default=True, help="Owner, where --asset does not say it.")
@click.option("--kind", help="asset.indexed, channel.moved, step.failed …")
@click.option("--run", "run_id", help="Of this run.")
@click.option("--since", type=Moment(), help="Not older: 2026-01-31, 7d.")
@page_options(50)
@click.option("--follow", is_flag=True, help="Print events as they come, until interrupted.")
@click.option("--sinks", is_flag=True, help="Who is told, and how far each has come.")
@click.option("--waiting", is_flag=True, help="What could not be told yet.")
@click.option("--dead", is_flag=True, help="What could not be told at all.")
@click.option(
    "--deliver", is_flag=True, help="Tell everybody what is due, once (`cloudbaker up` does it all the time)."
)
@click.option("--replay", metavar="SINK", help="Tell dead letters again; with --since, also what it was told since.")
@click.option("--why", default="", help="Of --replay, for the audit trail.")
@json_option
def events(
    asset: str | None,
    tenant: str,
    kind: str | None,
    run_id: str | None,
    since: datetime | None,
    limit: int,
    cursor: str | None,
    follow: bool,
    sinks: bool,
    waiting: bool,
    dead: bool,
    deliver: bool,
    replay: str | None,
    why: str,
    as_json: bool,
) -> int:
    """What happened, newest first; who was told of it, and who could not be."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    if sum((follow, sinks, waiting, dead, deliver, replay is not None)) > 1:
        raise click.UsageError("give one of --follow, --sinks, --waiting, --dead, --deliver, --replay")
    ref = None if asset is None else AssetRef.parse(asset, tenant=tenant)
    with Catalog.open(settings()) as opened:
        if follow:
            return _follow(opened, ref, kind, run_id, as_json)
        if deliver:
            return _deliver(opened, as_json)
        if replay is not None:
            _replay(opened, replay, ref, since, why, as_json)
        elif sinks:
            _sinks(opened, as_json)
        elif waiting or dead:
            _deliveries(opened, "dead" if dead else "waiting", limit, cursor, as_json)
        else:
            page = opened.events(asset=ref, kind=kind, run_id=run_id, since=since, limit=limit, cursor=cursor)
            if as_json:
                print_page(page)
                return 0
            if page:
                table(
                    ("when", "event", "asset", "run", "payload"),
                    (
                        (f"{e.at:%Y-%m-%d %H:%M:%S}", e.kind, e.asset, (e.run_id or "")[:8], _short(e.payload))
                        for e in page
                    ),
                )
            say_more(page, "event")
    return 0


def _follow(opened: Catalog, asset: AssetRef | None, kind: str | None, run_id: str | None, as_json: bool) -> int:
    import threading

    from cloudbaker.catalog.events import follow
    from cloudbaker.cli.output import printable

    wanted = {"asset": None if asset is None else str(asset), "kind": kind, "run_id": run_id}
    for event in follow(opened.core, threading.Event()):  # until Ctrl-C
        if any(value not in (None, getattr(event, name)) for name, value in wanted.items()):
            continue
        if as_json:  # one document a line
            click.echo(json.dumps(event.to_json(), ensure_ascii=False))
        else:
            click.echo(printable(f"{event.at:%H:%M:%S} {event.kind} {event.asset} {_short(event.payload)}"))
    return 0


def _deliver(opened: Catalog, as_json: bool) -> int:
    from cloudbaker.flows.publisher import configured_sinks
    from cloudbaker.settings import settings

    with configured_sinks(settings()) as sinks:
        if not sinks:
            raise click.UsageError("nobody is to be told: set CLOUDBAKER_WEBHOOK_URL, or start `cloudbaker up`")
        told = opened.publisher(sinks).drain()
    if as_json:
        fields = ("told", "failed", "died", "parked", "busy", "unavailable")
        print_json({name: {field: getattr(each, field) for field in fields} for name, each in told.items()})
    else:
        for name, each in told.items():
            if each.busy:
                click.echo(f"{name}: another publisher is telling it")
            else:
                click.echo(
                    f"{name}: {each.told} told, {each.failed} failed, {each.parked} wait behind them"
                    + (f"; {each.unavailable}" if each.unavailable else "")
                )
    return 1 if any(each.unavailable for each in told.values()) else 0


def _replay(
    opened: Catalog, sink: str, asset: AssetRef | None, since: datetime | None, why: str, as_json: bool
) -> None:
    import getpass

    count = opened.replay(sink, by=getpass.getuser(), why=why, asset=asset, since=since)
    if as_json:
        print_json({"sink": sink, "events": count})
    else:
        click.echo(f"{count} event(s) will be told to {sink} again")


def _sinks(opened: Catalog, as_json: bool) -> None:
    found = opened.sinks()
    if as_json:
        print_page(found)
    elif found:
        rows = ((k.sink, k.behind, k.waiting, k.dead, f"{k.updated_at:%Y-%m-%d %H:%M:%S}") for k in found)
        table(("sink", "behind", "waiting", "dead", "last told"), rows)
    else:
        click.echo("nobody was told of anything yet")


def _deliveries(opened: Catalog, state: str, limit: int, cursor: str | None, as_json: bool) -> None:
    page = opened.deliveries(state=state, limit=limit, cursor=cursor)
    if as_json:
        print_page(page)
        return
    if page:
        table(
            ("sink", "event", "asset", "seq", "attempts", "next attempt", "last error"),
            (
                (
                    d.sink,
                    d.event.kind,
                    d.event.asset,
                    d.event.seq,
                    d.attempts,
                    f"{d.next_at:%H:%M:%S}" if state == "waiting" else "",
                    d.error,
                )
                for d in page
            ),
        )
    say_more(page, "dead letter" if state == "dead" else "event that waits")


def _short(payload: object) -> str:
    text = json.dumps(payload, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
