"""``convopt explain``: every candidate for a convolution, what it costs, and why it was not chosen."""

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.markup import escape

from convopt.algorithms import parallel
from convopt.api import accuracy_limit, is_deterministic, workspace_limit
from convopt.cli.problem import problem_of
from convopt.cli.terminal import JsonOption, byte_count, console, duration, new_table, print_json
from convopt.errors import ShapeError
from convopt.kernels import registry
from convopt.tuning import networks, planner
from convopt.tuning.planner import Choice, Request


def explain(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SHAPE...",
            help="As on a line of a list of layers: 1x56x56x64 3x3x64x64 pad=SAME stride=2; or a key, as `convopt cache ls` prints it; "
            "or as benchdnn has it.",
        ),
    ],
    tune: Annotated[str, typer.Option(help=f"How to choose: {', '.join(planner.LEVELS)}.")] = "estimate",
    algorithm: Annotated[str, typer.Option(help="Only this one's candidates, as in winograd or winograd:t=6.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Default: all usable cores.")] = None,
    bias: Annotated[bool, typer.Option("--bias", help="With a bias.")] = False,
    activation: Annotated[str | None, typer.Option(help="With this activation: relu or relu6.")] = None,
    fresh_filters: Annotated[bool, typer.Option("--fresh-filters", help="Filters are packed in each call, as conv2d does.")] = False,
    accuracy: Annotated[str | None, typer.Option(help="Largest accepted error; or strict, or ieee.")] = None,
    max_workspace: Annotated[int | None, typer.Option(help="Most bytes of scratch memory.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which algorithm a convolution would get, and why not the others. Times nothing unless --tune says so."""
    if activation not in (None, "relu", "relu6"):
        raise ShapeError(f"--activation is {activation!r}; expected relu or relu6")
    request = problem_of(words, threads=threads, bias=bias, activation=activation, fresh_filters=fresh_filters)
    if request is None:
        shape = networks.layer(" ".join(words)).shape
        request = Request(shape, bias, activation, threads or parallel.current(), not fresh_filters)
    limit, finite_only = accuracy_limit(accuracy)
    request = replace(
        request,
        accuracy=limit,
        finite_only=finite_only,
        max_workspace=workspace_limit(max_workspace),
        deterministic=is_deterministic(),
    )
    choice = planner.choose(request, tune, algorithm)
    if as_json:
        print_json(_as_dict(request, choice))
    else:
        _show(request, choice)


def _as_dict(request: Request, choice: Choice) -> dict[str, Any]:
    return {
        "shape": request.shape.key(),
        "threads": request.threads,
        "isa": registry.isa(),
        "choice": choice.contenders[0].label,
        "source": choice.source,
        "reason": choice.reason,
        "candidates": [{"candidate": each.label, **asdict(each)} for each in choice.contenders],
    }


def _show(request: Request, choice: Choice) -> None:
    table = new_table(f"{request.shape.key()}, {registry.isa()}, {request.threads} thread{'s' * (request.threads > 1)}")
    for name in ("candidate", "time", "spread", "estimate", "error", "workspace", "filters"):
        table.add_column(name, justify="left" if name == "candidate" else "right", no_wrap=True)
    table.add_column("why", ratio=1)
    for each in choice.contenders:
        timed = each.seconds is not None
        table.add_row(
            f"[bold green]{each.label}[/]" if each.verdict == "chosen" else each.label,
            "-" if each.seconds is None else duration(each.seconds),
            "-" if each.spread is None else f"{100 * each.spread:.0f} %",
            duration(each.estimate),
            f"{each.error:.0e}" if timed else f"[dim]~{each.error:.0e}[/]",
            byte_count(each.workspace_bytes),
            byte_count(each.packed_bytes),
            "[bold green]chosen[/]" if each.verdict == "chosen" else escape(each.verdict),
        )
    console.print(table)
    console.print(f"[bold]{choice.contenders[0].label}[/]: {escape(choice.reason)}")
