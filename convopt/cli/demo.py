"""``convopt demo``: photographs, a trained network and the tuner, on input that nobody here made."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.rule import Rule

from convopt.algorithms import parallel
from convopt.cli import demo_digits, demo_pictures
from convopt.cli.terminal import JsonOption, console, duration, new_table, print_json, stderr
from convopt.cli.tune import tune_layers
from convopt.cli.tuned import as_dict, show
from convopt.errors import ConvoptError
from convopt.kernels import registry
from convopt.tuning import networks


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo-output"),
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the part that needs TensorFlow.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Filter photographs, run a trained network next to Keras, tune LeNet-5, and say what was chosen."""
    started = time.perf_counter()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvoptError(f"--output is {str(output)!r}, which cannot be made: {error.strerror}") from None
    facts: dict[str, Any] = {"isa": registry.isa(), "threads": parallel.current()}
    parts: list[tuple[str, Callable[[Path, bool], dict[str, Any]]]] = [("pictures", _pictures)]
    if not quick:
        parts.append(("digits", _digits))
    parts.append(("lenet5", _lenet5))
    for name, part in parts:
        facts[name] = part(output, not as_json)
    facts["seconds"] = time.perf_counter() - started
    if as_json:
        print_json(facts)
    else:
        console.print()
        console.print(
            f"Done in {facts['seconds']:.0f} s on {facts['threads']} threads with {facts['isa']} kernels. "
            f"The pictures are in [bold]{output}/[/]; the choices are remembered, so the next run measures nothing anew."
        )


def _heading(words: str, shown: bool) -> None:
    if shown:
        console.print()
        console.print(Rule(f"[bold]{words}", align="left"))


def _pictures(output: Path, shown: bool) -> dict[str, Any]:
    _heading("Photographs to feature maps", shown)
    names, photos = demo_pictures.photographs()
    results = []
    for which in demo_pictures.filters():
        with stderr.status(f"filter {which.name}"):
            results.append(demo_pictures.apply(which, photos, tune="measure"))
    path = output / "feature-maps.png"
    with stderr.status("drawing"):
        demo_pictures.save_sheet(path, names, photos, results)
    if shown:
        n, h, w, _ = photos.shape
        console.print(f"{n} photographs that come with scikit-learn ({' and '.join(names)}), {w} x {h} pixels, all in one call per filter:")
        table = new_table()
        for name in ("filter", "size", "looks at", "fastest"):
            table.add_column(name)
        table.add_column("time", justify="right")
        table.add_column("error", justify="right")
        for result in results:
            r, s = result.filter.kernel.shape[:2]
            cells = (result.filter.name, f"{r} x {s}", result.filter.looks_at, f"[bold green]{result.algorithm}[/]")
            table.add_row(*cells, duration(result.seconds), f"{result.error:.0e}")
        console.print(table)
        console.print("[dim]error: max|y - y64| / max|y64| against the float64 reference, in the middle of each picture[/]")
        console.print(f"Saved [bold]{path}[/]: input, filters and maps.")
    filters = [{"filter": each.filter.name, "algorithm": each.algorithm, "seconds": each.seconds, "error": each.error} for each in results]
    return {"picture": str(path), "photographs": names, "filters": filters}


def _digits(output: Path, shown: bool) -> dict[str, Any]:
    _heading("A network trained by Keras, run by convopt", shown)
    with stderr.status("training a LeNet on scikit-learn's handwritten digits (TensorFlow is loading)"):
        result = demo_digits.compare(tune="measure")
    path = output / "digits.png"
    demo_digits.save_picture(path, result)
    count = len(result.labels)
    if result.same_predictions != count:
        raise ConvoptError(f"Keras and convopt read {count - result.same_predictions} of {count} digits differently")
    if shown:
        console.print(
            f"Trained on {demo_digits.TRAINING_DIGITS:,} of scikit-learn's real handwritten digits, {demo_digits.EPOCHS} epochs; "
            f"then {count} others, convolutions by convopt plans made of the Keras weights:"
        )
        table = new_table()
        for name in ("", "accuracy", "predictions"):
            table.add_column(name, justify="left" if not name else "right")
        table.add_row("Keras", f"{result.keras_accuracy:.1%}", f"{count}")
        table.add_row("convopt", f"{result.convopt_accuracy:.1%}", f"[bold green]{result.same_predictions} of {count} the same[/]")
        console.print(table)
        for layer in result.layers:
            console.print(f"{layer.name}: [bold green]{layer.plan.algorithm}[/], {duration(layer.seconds)} for all {count} digits")
        console.print(f"Largest difference between two probabilities: {result.largest_difference:.0e}. Saved [bold]{path}[/].")
    return {
        "picture": str(path),
        "keras_accuracy": result.keras_accuracy,
        "convopt_accuracy": result.convopt_accuracy,
        "digits": count,
        "same_predictions": result.same_predictions,
        "largest_difference": result.largest_difference,
        "layers": [{"layer": each.name, "algorithm": each.plan.algorithm, "seconds": each.seconds} for each in result.layers],
    }


def _lenet5(output: Path, shown: bool) -> dict[str, Any]:
    _heading("What the tuner chooses for LeNet-5", shown)
    rows = tune_layers(networks.network("lenet5"), [parallel.current()], "measure")
    if shown:
        show(rows, f"lenet5, {registry.isa()}")
    return {"results": [as_dict(row) for row in rows]}
