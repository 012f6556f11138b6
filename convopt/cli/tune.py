"""``convopt tune``: measure which algorithm is fastest for each layer of a list, and remember it."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from convopt.algorithms import parallel
from convopt.cli.problem import problem_of
from convopt.cli.terminal import JsonOption, print_json, progress, stderr
from convopt.cli.tuned import Listing, Row, as_dict, listing_of, row_of, show, show_sums
from convopt.errors import DTypeError, ShapeError
from convopt.kernels import registry
from convopt.tuning import models, networks, planner, recording
from convopt.tuning.measure import NORMAL, QUICK, THOROUGH, Effort
from convopt.tuning.networks import Layer
from convopt.tuning.planner import Request

LEVELS = ("measure", "exhaustive", "estimate")
#: The file descriptor: what a recorded program prints is not among the results.
STDERR = 2
EFFORTS = {"quick": QUICK, "normal": NORMAL, "thorough": THOROUGH}


def tune(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE | SHAPE... | -- COMMAND...]",
            help="A list of layers, one per line; a .keras or .onnx model; one layer as on such a line, as 1x56x56x64 3x3x64x64 pad=SAME, "
            "a key, or as benchdnn has it; with --record, a command.",
        ),
    ] = None,
    network: Annotated[str | None, typer.Option(help=f"Layers that come with convopt: {', '.join(networks.networks())}.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Run COMMAND, and tune what it asked convopt for.")] = False,
    recorded: Annotated[Path | None, typer.Option(help="Tune what programs wrote to the file that CONVOPT_RECORD named.")] = None,
    threads: Annotated[str | None, typer.Option(help="Numbers of threads to tune for, as in 1,2. Default: all usable cores.")] = None,
    bias: Annotated[bool, typer.Option("--bias", help="Tune the layers with a bias.")] = False,
    activation: Annotated[str | None, typer.Option(help="Tune the layers with this activation: relu or relu6.")] = None,
    fresh_filters: Annotated[bool, typer.Option("--fresh-filters", help="For conv2d, whose calls bring filters, not for plans.")] = False,
    level: Annotated[str, typer.Option(help=f"What to measure: {', '.join(LEVELS)}.")] = "measure",
    effort: Annotated[str, typer.Option(help=f"How long to measure it: {', '.join(EFFORTS)}.")] = "normal",
    time_limit: Annotated[float | None, typer.Option(min=0.0, help="Seconds after which no further layer is begun.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the fastest algorithm for each layer of FILE, of a NETWORK, or of a program's run, and remember it.

    What was tuned before is not tuned again: an interrupted run goes on where it was.
    """
    if level not in LEVELS:
        raise ShapeError(f"--level is {level!r}; expected one of {', '.join(LEVELS)}")
    if effort not in EFFORTS:
        raise ShapeError(f"--effort is {effort!r}; expected one of {', '.join(EFFORTS)}")
    if activation not in (None, "relu", "relu6"):
        raise ShapeError(f"--activation is {activation!r}; expected relu or relu6")
    wanted, title = _wanted(words or [], network, record, recorded, threads, bias, activation, fresh_filters)
    rows: list[Row] = []
    listing = None if as_json else listing_of(wanted, f"{title}, {registry.isa()}")
    try:
        tune_requests(wanted, level, EFFORTS[effort], time_limit, rows, listing)
    finally:  # also of what was interrupted
        left = len(wanted) - len(rows)
        if as_json:
            results = [as_dict(row) for row in rows]
            print_json({"layers": title, "isa": registry.isa(), "level": level, "left": left, "results": results})
        elif rows and listing is None:
            show(rows, f"{title}, {registry.isa()}")
        else:
            show_sums(rows)
        if effort != "normal" and any(row.source == "cache" for row in rows):
            stderr.print("some were remembered, and not measured again; `convopt verify --update` does that", soft_wrap=True)
        if left:
            stderr.print(f"{left} of {len(wanted)} are left; the same command goes on with them", soft_wrap=True)


def _wanted(
    words: list[str],
    network: str | None,
    record: bool,
    recorded: Path | None,
    threads: str | None,
    bias: bool,
    activation: str | None,
    fresh_filters: bool,
) -> tuple[list[tuple[Layer, Request]], str]:
    """What to tune, and what to call it."""
    if record or recorded is not None:
        if network is not None or (words and not record) or (record and recorded is not None):
            raise ShapeError("give only one of FILE, --network, --record and --recorded")
        if threads is not None or bias or activation is not None or fresh_filters:
            raise ShapeError("--threads, --bias, --activation and --fresh-filters are as the program had them; they cannot be given")
        requests = _requests_of(words) if record else _recorded(recorded)
        return [(Layer(f"#{number}", each.shape), each) for number, each in enumerate(requests, 1)], words[0] if words else str(recorded)
    problem = problem_of(words, network=network, threads=threads, bias=bias, activation=activation, fresh_filters=fresh_filters)
    if problem is not None:
        return [(Layer(words[0], problem.shape), problem)], words[0]
    if words and network is None and networks.is_layer(words) and not os.path.exists(words[0]):
        layer = networks.layer(" ".join(words))
        return requests_for([layer], thread_counts(threads), bias, activation, fresh_filters), layer.name
    if len(words) > 1:
        raise ShapeError(f"found {words[1]!r} after FILE; to tune what a command asks for, say --record -- COMMAND")
    layers, title = layers_of(Path(words[0]) if words else None, network)
    return requests_for(layers, thread_counts(threads), bias, activation, fresh_filters), title


def _requests_of(command: list[str]) -> list[Request]:
    """Run a command, its output to standard error, and return what it asked convopt for."""
    if not command:
        raise ShapeError("--record needs a command after --, as in: convopt tune --record -- python program.py")
    with tempfile.TemporaryDirectory(prefix="convopt-record-") as folder:
        file = Path(folder, "problems")
        file.touch()
        try:
            done = subprocess.run(command, env={**os.environ, recording.VARIABLE: str(file)}, stdout=STDERR, check=False)
        except OSError as error:
            raise ShapeError(f"COMMAND is {command[0]!r}, which cannot be run: {error.strerror}") from None
        requests = recording.read(file)
    if done.returncode:
        stderr.print(f"[yellow]{escape(command[0])} ended with exit status {done.returncode}[/]; what it asked for until then is tuned")
    if not requests:
        raise ShapeError(f"{command[0]!r} asked convopt for nothing")
    return requests


def _recorded(file: Path | None) -> list[Request]:
    assert file is not None
    try:
        requests = recording.read(file)
    except OSError as error:
        raise ShapeError(f"--recorded is {str(file)!r}, which cannot be read: {error.strerror}") from None
    if not requests:
        raise ShapeError(f"--recorded is {str(file)!r}, which lists no problem")
    return requests


def layers_of(file: Path | None, network: str | None) -> tuple[list[Layer], str]:
    """The layers asked for and what to call them. Raises ShapeError unless exactly one of the two is given and readable."""
    if (file is None) == (network is None):
        raise ShapeError("give either a FILE of layers or --network NAME")
    if file is None:
        assert network is not None
        return networks.network(network), network
    try:
        layers = models.read_model(file) if file.suffix in models.SUFFIXES else networks.read_shapes(file)
    except OSError as error:
        raise ShapeError(f"FILE is {str(file)!r}, which cannot be read: {error.strerror}") from None
    if not layers:
        raise ShapeError(f"FILE is {str(file)!r}, which lists no layer")
    return layers, file.name


def thread_counts(text: str | None) -> list[int]:
    """'1,2' -> [1, 2]; the default number for None. Raises DTypeError, ShapeError."""
    if text is None:
        return [parallel.current()]
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise DTypeError(f"--threads is {text!r}; expected integers separated by commas, as in 1,2") from None
    if min(counts) < 1 or max(counts) > parallel.MAX_THREADS:
        raise ShapeError(f"--threads is {text!r}; each must be from 1 to {parallel.MAX_THREADS}")
    return counts


def tune_layers(
    layers: Iterable[Layer], threads: Iterable[int], level: str, bias: bool = False, activation: str | None = None
) -> list[Row]:
    """Choose for each layer at each number of threads, with a progress bar whose estimate knows what tuning costs."""
    rows: list[Row] = []
    tune_requests(requests_for(layers, threads, bias, activation), level, NORMAL, None, rows)
    return rows


def requests_for(
    layers: Iterable[Layer], threads: Iterable[int], bias: bool = False, activation: str | None = None, fresh_filters: bool = False
) -> list[tuple[Layer, Request]]:
    """Each layer at each number of threads, as a plan would ask for it, or, with fresh filters, conv2d."""
    layers = list(layers)
    return [
        (layer, Request(layer.shape, bias=bias, activation=activation, threads=count, constant_filters=not fresh_filters))
        for count in threads
        for layer in layers
    ]


def tune_requests(
    wanted: list[tuple[Layer, Request]],
    level: str,
    effort: Effort,
    time_limit: float | None,
    rows: list[Row],
    listing: Listing | None = None,
) -> None:
    """Choose for each, with a progress bar, adding a row (also to the listing) as each is done; none is begun after time_limit seconds."""
    end = None if time_limit is None else time.monotonic() + time_limit
    with progress("Tuning", in_seconds=True) as bar:
        if listing is not None:
            listing.begin(bar.console)
        # What is remembered costs next to nothing, but is a step of the bar all the same.
        costs = [planner.budget(request, effort, level) + 0.01 for _, request in wanted]
        task = bar.add_task("", total=sum(costs), doing="")
        for (layer, request), cost in zip(wanted, costs, strict=True):
            if end is not None and time.monotonic() > end:
                break
            bar.update(task, doing=layer.name)
            rows.append(row_of(layer, request, planner.choose(request, level, effort=effort)))
            if listing is not None:
                listing.add(bar.console, rows[-1])
            bar.advance(task, cost)
