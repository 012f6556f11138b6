"""How the figures look: colours by role, and SVG that takes them from the page's style sheet.

Each figure is drawn once per palette: for SVG its colours are names that the style sheet fills in, so that one picture serves
light and dark pages; for PNG they are those of a light page, or of a dark one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

#: Colours by role, on a light and on a dark page. Each has a contrast of at least 3 to its page, ink of more than 10.
COLOURS = {
    "ink": ("#1b1f24", "#e6e9ee"),
    "faint": ("#5b6470", "#9aa5b3"),
    "grid": ("#d5dae0", "#39424d"),
    "page": ("#ffffff", "#14181d"),
    "own": ("#0a5c9e", "#6cbcf5"),
    "direct": ("#0b6fb8", "#5cb3f0"),
    "im2col": ("#86690a", "#d9b53c"),
    "winograd": ("#b3400f", "#ff8f5c"),
    "fft": ("#00795a", "#3fc99c"),
    "depthwise": ("#8e3d8e", "#d68fd6"),
    "grouped": ("#a3245c", "#f27aa8"),
    "dots": ("#5a4fb8", "#a79df5"),
    "other": ("#44505c", "#b4bfca"),
    "peer": ("#6d7680", "#98a3ae"),
}
MARKERS = {"direct": "o", "im2col": "s", "winograd": "^", "fft": "D", "depthwise": "v", "grouped": "X", "dots": "P"}
WIDTH = 6.6


@dataclass(frozen=True)
class Palette:
    """Colours by role."""

    of: dict[str, str]

    def algorithm(self, name: str | None) -> str:
        """The colour of an algorithm, also of one that came later than this palette."""
        return self.of.get(str(name), self.of["other"])


#: Not colours anybody would choose: they are looked for in the SVG, and replaced.
NAMED = Palette({role: f"#0{index:02x}0{index:02x}" for index, role in enumerate(COLOURS, 1)})
LIGHT = Palette({role: light for role, (light, _) in COLOURS.items()})
DARK = Palette({role: dark for role, (_, dark) in COLOURS.items()})


def style(palette: Palette) -> Any:
    ink, grid, page = palette.of["ink"], palette.of["grid"], palette.of["page"]
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "convopt",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": palette.of["faint"],
        "axes.facecolor": page,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "xtick.color": ink,
        "ytick.color": ink,
        "figure.facecolor": page,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.constrained_layout.use": True,
    }


def themed(svg: str, name: str, words: tuple[str, str, str]) -> str:
    """The SVG element alone, its colours by name, sized by the page, with its words for those who do not see it."""
    svg = svg[svg.index("<svg") :].strip()
    for role, colour in NAMED.of.items():
        svg = svg.replace(colour, f"var(--{role})")
    # Identifiers are shared by all of a page.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) '[^;]*'", r"font: \1 var(--font)", svg)
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    opening = f'<svg viewBox="{view[1]}" role="img" aria-labelledby="{name}-words"><title id="{name}-words">{_escaped(words[2])}</title>'
    return re.sub(r"<svg.*?>", lambda _: opening, svg, count=1, flags=re.DOTALL)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
