"""``convopt verify``: measure again what is remembered: would the same be chosen, and does it still take as long?"""

import random
import statistics
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from convopt.algorithms import parallel
from convopt.cli.terminal import JsonOption, console, duration, new_table, print_json, progress
from convopt.errors import CacheMiss
from convopt.tuning import exchange, planner, records
from convopt.tuning.exchange import Entry
from convopt.tuning.records import FLIP, Record


@dataclass(frozen=True)
class Verified:
    """One problem, then and now. Times in seconds, in the best moment of its race.

    drift: time of the remembered choice now over then. regret: its time now over that of what would be chosen now, from the
    same race; 1 where that is the same. flipped: whether the remembered choice is by now more than 2 % behind.
    """

    key: str
    remembered: str
    remembered_seconds: float
    now: str
    now_seconds: float
    drift: float
    regret: float
    flipped: bool


def verify(
    match: Annotated[str, typer.Argument(help="Only entries whose keys contain this.")] = "",
    sample: Annotated[int | None, typer.Option(min=1, help="So many entries, at random, instead of all.")] = None,
    allow: Annotated[float, typer.Option(min=0.0, max=100.0, help="Percentage of flipped choices beyond which this fails.")] = 3.0,
    update: Annotated[bool, typer.Option("--update", help="Remember the new measurements instead of the old ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure again what is remembered; exit status 1 if too many choices would be different and faster now."""
    wanted = [entry for entry in exchange.entries() if match in entry.key and entry.best and _can_run(entry)]
    if not wanted:
        raise CacheMiss(
            "nothing is remembered of this machine that could be verified" + (f", and has {match!r} in its key" if match else "")
        )
    if sample is not None and sample < len(wanted):
        wanted = random.sample(wanted, sample)
    rows = []
    with progress("Verifying") as bar:
        task = bar.add_task("", total=len(wanted), doing="")
        for entry in wanted:
            bar.update(task, doing=entry.key)
            row = verified(entry, update)
            rows += [row] if row else []
            bar.advance(task)
    summary = summary_of(rows)
    if as_json:
        print_json({**summary, "results": [asdict(row) for row in rows]})
    else:
        _show(rows, summary)
    if summary["flip_rate"] > allow / 100:
        raise typer.Exit(1)


def verified(entry: Entry, update: bool = False) -> Verified | None:
    """Measure an entry's problem again; None where the remembered choice is no candidate any more."""
    fresh = planner.remeasure(entry.request, entry.algorithm)
    if update:
        planner.remember(entry.request, fresh, entry.algorithm)
    then, now = entry.best, records.select(fresh, entry.request)
    again = None if then is None else next((each for each in fresh if each.identity == then.identity), None)
    if then is None or then.fastest is None or now is None or now.fastest is None or again is None:
        return None
    seconds = _fastest(again, beyond=now.fastest)
    regret = max(1.0, seconds / now.fastest)
    return Verified(
        entry.key, then.label, then.fastest, now.label, now.fastest, seconds / then.fastest, regret, again is not now and regret > FLIP
    )


def summary_of(rows: list[Verified]) -> dict[str, Any]:
    """How many, and the medians."""
    return {
        "entries": len(rows),
        "flipped": sum(row.flipped for row in rows),
        "flip_rate": sum(row.flipped for row in rows) / max(1, len(rows)),
        "median_drift": statistics.median(row.drift for row in rows) if rows else None,
        "worst_regret": max((row.regret for row in rows), default=None),
    }


def _fastest(record: Record, beyond: float) -> float:
    """Its time; where it was rejected or given up before it was timed, so much as it has at least."""
    return beyond * 1.5 if record.fastest is None else record.fastest


def _can_run(entry: Entry) -> bool:
    return entry.request.threads <= parallel.usable_cores()


def _show(rows: list[Verified], summary: dict[str, Any]) -> None:
    table = new_table(f"{len(rows)} entries, then and now")
    for name in ("problem", "remembered", "then", "now", "drift", "best now", "its time", ""):
        table.add_column(name, justify="left" if name in ("problem", "remembered", "best now", "") else "right", no_wrap=name != "problem")
    for row in rows:
        now = duration(row.remembered_seconds * row.drift)
        same = row.now == row.remembered
        table.add_row(
            row.key,
            row.remembered,
            duration(row.remembered_seconds),
            now,
            f"{100 * (row.drift - 1):+.0f} %",
            "[dim]the same[/]" if same else row.now,
            "" if same else duration(row.now_seconds),
            f"[bold red]flipped: {row.regret:.2f}x[/]" if row.flipped else "",
        )
    console.print(table)
    drift = "" if summary["median_drift"] is None else f"; median drift {100 * (summary['median_drift'] - 1):+.1f} %"
    console.print(f"[bold]{summary['flipped']} of {summary['entries']}[/] choices flipped{drift}")
