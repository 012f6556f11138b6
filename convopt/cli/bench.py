"""``convopt bench``: convopt against the engines that are installed, layer by layer."""

import atexit
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from convopt.algorithms import parallel
from convopt.bench import compare as comparing
from convopt.bench import race, results, run
from convopt.bench.compare import Comparison
from convopt.bench.engines import ENGINES, PEERS
from convopt.bench.networks import NETWORKS
from convopt.bench.results import Results
from convopt.bench.studies import STUDIES
from convopt.bench.whole import networks_of
from convopt.cli import info
from convopt.cli.terminal import JsonOption, console, duration, long_progress, new_table, print_json, stderr
from convopt.cli.tune import layers_of, thread_counts
from convopt.errors import ShapeError
from convopt.tuning.networks import Layer

#: The list that is measured unless told otherwise, and what --quick takes of it.
LIST = "public"
QUICK = (
    "resnet50_1x1_64_256@56",
    "resnet50_3x3_128@28",
    "vgg16_3x3_512@14",
    "mobilenetv2_dw3x3s2_96@112",
    "alexnet_5x5_96_256@27",
    "image_31x31_1@512",
)
EFFORT = race.Effort(thorough=True)
QUICK_EFFORT = race.Effort(rounds=3, seconds=0.02)
#: Of verdicts.
COLOURS = {"slower": "red", "faster": "green"}
QUICK_NETWORKS = ("lenet5", "mobilenetv2")
QUICK_STUDIES = ("networks",)


def bench(
    file: Annotated[Path | None, typer.Argument(help="A list of layers, as `convopt tune` takes it. Default: the public list.")] = None,
    network: Annotated[str | None, typer.Option(help="Layers that come with convopt instead, such as resnet50.")] = None,
    layers: Annotated[str | None, typer.Option(help="Only layers whose names contain one of these words, as in vgg16,dw3x3.")] = None,
    engines: Annotated[str | None, typer.Option(help=f"Only these peers, or none. Known: {', '.join(PEERS)}.")] = None,
    threads: Annotated[str | None, typer.Option(help="Numbers of threads. Default: 1 and all usable cores.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few layers, one number of threads: three minutes at most.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help=f"Interleaved rounds. Default: {EFFORT.rounds}.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help=f"Per engine, layer and round. Default: {EFFORT.seconds}.")] = None,
    python: Annotated[str | None, typer.Option(help="Interpreter that has the other engines. Default: this one.")] = None,
    remembered: Annotated[bool, typer.Option("--remembered", help="Use choices tuned earlier instead of tuning afresh.")] = False,
    study: Annotated[
        str | None,
        typer.Option(help=f"What to measure besides layers: {', '.join(STUDIES)}, or none. Default: all of them on the public list."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="OLD", help="Compare with an earlier run; what looks slower is measured again first.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Race nothing; say what became slower. Exit status 1 if something did.", metavar="OLD NEW"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write. Default: results/CPU/DATE-COMMIT.json.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Race convopt against every other engine that is installed, one process each, in interleaved rounds."""
    if compare is not None:
        show_comparison(comparing.compare(*map(results.read, compare)), as_json)
        return
    chosen, title = wanted_layers(file, network, layers, quick)
    names = wanted_engines(engines)
    counts = thread_counts(threads) if threads else sorted({1} if quick else {1, parallel.usable_cores()})
    if max(counts) > parallel.usable_cores():
        stderr.print(f"[yellow]note[/] {max(counts)} threads share {parallel.usable_cores()} core(s): they will wait for each other")
    effort = QUICK_EFFORT if quick else EFFORT
    effort = replace(effort, rounds=rounds or effort.rounds, seconds=effort.seconds if seconds is None else seconds)
    standard = file is None and network is None and layers is None
    studied = run.wanted_studies(study, (QUICK_STUDIES if quick else tuple(STUDIES)) if standard else ())
    earlier = None if against is None else results.read(against)
    if not remembered:
        # Choices of another day, or of a busy hour, are none of this comparison's business.
        folder = tempfile.mkdtemp(prefix="convopt-bench-cache-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["CONVOPT_CACHE_DIR"] = folder
    interpreter = python or sys.executable
    if shutil.which(interpreter) is None:
        raise ShapeError(f"--python is {interpreter!r}; expected an interpreter that can be run")
    facts = info.gather()
    plan = run.Plan(
        chosen,
        names,
        counts,
        effort,
        interpreter,
        networks=() if "networks" not in studied else QUICK_NETWORKS if quick else tuple(NETWORKS),
        sums="networks" in studied and not quick,
        growth="growth" in studied,
        map="map" in studied,
        against=earlier,
    )
    with long_progress("Racing", plan.steps()) as advance:
        outcome, extra = run.measure(plan, advance)
    for name, reason in outcome.missing.items():
        stderr.print(f"[yellow]skipped[/] {ENGINES[name].title}: {escape(reason)}", soft_wrap=True)
    settings = {"rounds": effort.rounds, "seconds": effort.seconds, "remembered": remembered, "quick": quick}
    versions = results.versions_of(names, interpreter)
    value = results.document(outcome, chosen, title, facts, versions, settings, **extra)
    path = results.save(value, to=output)
    new = results.read(path)
    if not as_json:
        show(new)
        console.print(f"Written to [bold]{escape(str(path))}[/]; [bold]convopt report[/] makes a page of it.", soft_wrap=True)
    elif earlier is None:
        print_json({"file": str(path), **value["convopt"], "benchmarks": value["benchmarks"]})
    if earlier is not None:
        show_comparison(comparing.compare(earlier, new), as_json)


def wanted_layers(file: Path | None, network: str | None, words: str | None, quick: bool) -> tuple[list[Layer], str]:
    """The layers asked for and what to call them. Raises ShapeError for a network, file or layer that is none."""
    if file is None and network is None:
        network = LIST
    layers, title = layers_of(file, network)
    for layer in layers:
        if layer.shape.data_format != "NHWC" or layer.shape.dtype != "float32":
            raise ShapeError(f"layer {layer.name} is {layer.shape.data_format} {layer.shape.dtype}; engines are compared on NHWC float32")
        if layer.shape.is_empty:
            raise ShapeError(f"layer {layer.name} has no output")
    if len({layer.name for layer in layers}) < len(layers):
        layers = [replace(layer, name=f"{layer.name}#{number}") for number, layer in enumerate(layers, 1)]
    if words is not None:
        parts = [word for word in words.split(",") if word]
        for part in parts:
            if not any(part in layer.name for layer in layers):
                raise ShapeError(f"layer is {part!r}, which is in no name; known are {', '.join(layer.name for layer in layers)}")
        layers = [layer for layer in layers if any(part in layer.name for part in parts)]
    elif quick:
        layers = [layer for layer in layers if layer.name in QUICK] or layers[: len(QUICK)]
    return layers, title


def wanted_engines(text: str | None) -> list[str]:
    """convopt, and the peers named, or all. Raises ShapeError for a name that is no engine's."""
    if text is None:
        return list(ENGINES)
    names = [name for name in text.split(",") if name and name != "none"]
    race.check(names)
    return list(dict.fromkeys(("convopt", *names)))


def show(found: Results) -> None:
    """A table per number of threads, and the geometric mean."""
    for threads in found.threads:
        table = new_table(f"{found.about['list']}, {found.about['isa']}, {threads} thread{'s' * (threads > 1)}")
        table.add_column("layer", no_wrap=True)
        table.add_column("convopt", style="bold green", overflow="fold")
        for name in ("time", "GFLOP/s", "noise"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("best peer", no_wrap=True)
        for name in ("its time", "ratio"):
            table.add_column(name, justify="right", no_wrap=True)
        for layer, own in found.of("convopt", threads).items():
            peer = found.best_peer(layer, threads)
            theirs = (
                ("-", "-", "-")
                if peer is None
                else (ENGINES[peer.engine].title, duration(peer.seconds), _ratio(peer.seconds / own.seconds))
            )
            cells = (own.facts["choice"], duration(own.seconds), f"{own.gflops:.1f}", f"{100 * own.noise:.0f} %", *theirs)
            table.add_row(layer, *cells)
        console.print(table)
        ratios = list(found.ratios(threads).values())
        if ratios:
            console.print(
                f"[bold]{results.geomean(ratios):.2f}x[/] the best peer's speed (geometric mean of {len(ratios)} layers); "
                f"worst {min(ratios):.2f}x, best {max(ratios):.2f}x"
            )
    _show_networks(found)
    noise = found.about["noise"]
    console.print(f"Noise: grade [bold]{noise['grade']}[/] ({100 * noise['median']:.1f} %)")


def _show_networks(found: Results) -> None:
    rows = networks_of(found)
    if rows:
        table = new_table("Whole networks: all convolutions in a row")
        for name in ("network", "threads", "convopt", "best peer", "its time", "ratio"):
            table.add_column(name, justify="left" if name in ("network", "best peer") else "right", no_wrap=True)
        for each in rows:
            theirs = ("-", "-", "-") if each.peer is None else (ENGINES[each.peer].title, duration(each.peer_seconds), _ratio(each.ratio))
            table.add_row(each.title, str(each.threads), duration(each.seconds), *theirs)
        console.print(table)


def show_comparison(found: Comparison, as_json: bool) -> None:
    """What changed beyond noise; ends with exit status 1 where something became slower."""
    if as_json:
        changes = [
            {"layer": each.layer, "threads": each.threads, "ratio": each.ratio, "limit": each.limit, "verdict": each.verdict}
            for each in found.changes
        ]
        trends = [{**vars(each), "verdict": each.verdict} for each in found.trends]
        slower = {"slower": len(found.slower), "regressions": found.regressions}
        print_json({"geomeans": found.geomeans, "drifts": found.drifts, **slower, "changes": changes, "trends": trends})
    else:
        table = new_table("Time, new over old")
        for name in ("layer", "threads", "old", "new", "ratio", "allowed", ""):
            table.add_column(name, justify="left" if name in ("layer", "") else "right", no_wrap=name != "", overflow="fold")
        for each in found.changes:
            colour = COLOURS.get(each.verdict, "dim")
            choices = [str(row.facts.get("choice")) for row in (each.old, each.new)]
            switched = "" if choices[0] == choices[1] else f"{choices[0]} -> {choices[1]}"
            times = duration(each.old.seconds), duration(each.new.seconds)
            verdict = f"[{colour}]{each.verdict}[/] {switched}"
            table.add_row(each.layer, str(each.threads), *times, f"[{colour}]{each.ratio:.3f}[/]", f"{each.limit:.2f}", verdict)
        console.print(table)
        if found.trends:
            table = new_table("Time, new over old, of all layers of an algorithm")
            for name in ("algorithm", "threads", "layers", "ratio", "allowed", ""):
                table.add_column(name, justify="left" if name in ("algorithm", "") else "right")
            for trend in found.trends:
                colour = COLOURS.get(trend.verdict, "dim")
                counts = trend.algorithm, str(trend.threads), str(trend.layers)
                table.add_row(*counts, f"[{colour}]{trend.ratio:.3f}[/]", f"{trend.limit:.2f}", f"[{colour}]{trend.verdict}[/]")
            console.print(table)
        for threads, mean in found.geomeans.items():
            drift = 100 * (found.drifts[threads] - 1)
            console.print(
                f"{threads} thread{'s' * (threads > 1)}: geometric mean {mean:.3f}; the machine's drift ({drift:+.1f} %) is taken out"
            )
        console.print(f"[bold red]{found.regressions} slower[/]" if found.regressions else "[bold green]Nothing became slower.[/]")
    if found.regressions:
        raise typer.Exit(1)


def _ratio(ratio: float) -> str:
    return f"[{'green' if ratio >= 1 else 'red'}]{ratio:.2f}x[/]"
