"""A map of words: their vectors in two dimensions, by PCA or t-SNE, with the parallelogram of an analogy.

N words, D width. Labels are placed one by one where they cover the least of what is drawn already.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit import console
from nlpkit.errors import UsageError, did_you_mean
from nlpkit.store import atomic
from nlpkit.vectors.reduction import principal_axes
from nlpkit.vectors.vectors import Vectors, unit_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("pca", "tsne")
SUFFIXES = (".svg", ".png", ".pdf")
MOST = 2000  # words of a map
# The colours of the run reports.
INK, SOFT, LINE, PAGE, BLUE, ORANGE = "#1b1f24", "#687078", "#d9dde2", "#fbfbfa", "#2563c9", "#d1602b"
Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


def flat(rows: np.ndarray, method: str, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Vectors (N, D), taken at length 1, in two dimensions (N, 2), and what the two axes are called.

    ``pca``: the two axes of greatest variance among these words. ``tsne``: van der Maaten and Hinton 2008, as
    scikit-learn has it, started from PCA.

    :raises UsageError: an unknown method, too few words for it, or scikit-learn is missing.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is not known{did_you_mean(method, METHODS)}")
    least = 2 if method == "pca" else 4
    if not least <= len(rows) <= MOST:
        raise UsageError(f"a map by {method} needs {least} to {MOST:,} words, got {len(rows):,}")
    units = unit_rows(rows.astype(np.float64))
    if method == "pca":
        if units.shape[1] == 1:
            return np.hstack([units, np.zeros_like(units)]), ["the one number of a vector", ""]
        kept = principal_axes(units, 2)
        places = (units - units.mean(axis=0)) @ kept.axes
        whole = units.var(axis=0).sum()
        shares = places.var(axis=0) / whole if whole else np.zeros(2)
        return places, [f"principal axis {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(shares)]
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UsageError("--method tsne needs scikit-learn; run: pip install 'nlpkit[digits]'") from error
    perplexity = min(30.0, (len(rows) - 1) / 3)
    made = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(units)
    return np.asarray(made, np.float64), ["", ""]


def plot_words(
    vectors: Vectors,
    words: Sequence[str],
    target: str | Path,
    *,
    method: str = "pca",
    analogy: tuple[str, str, str, str] | None = None,
    neighbours: int = 0,
    seed: int = 0,
) -> None:
    """Draw words into an svg, png or pdf file; with ``neighbours`` also the nearest words of each, in grey.

    ``analogy`` a, b, c, d is drawn as a parallelogram: arrows from a to b and from c to d.

    :raises NotFound: an unknown word. :raises UsageError: too few words, another kind of file.
    """
    target = Path(target)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a map is an svg, png or pdf file; name it so")
    named = list(dict.fromkeys(vectors.index(word) for word in (*(analogy or ()), *words)))
    near = [
        vectors.index(word)
        for found in (vectors.nearest_rows(named, neighbours, [[row] for row in named]) if neighbours else [])
        for word, _ in found
    ]
    rows = list(dict.fromkeys([*named, *near]))
    places, axes = flat(vectors.matrix[rows], method, seed)
    corners = [rows.index(vectors.index(word)) for word in analogy] if analogy else []
    texts = [vectors.words[row] for row in rows]
    atomic.write_bytes(target, _draw(places, texts, axes, len(named), corners, target.suffix[1:].lower()))


def _draw(
    places: np.ndarray, texts: list[str], axes: list[str], named: int, corners: list[int], form: str
) -> bytes:
    """The picture's bytes; the first ``named`` words were asked for, ``corners`` are those of an analogy."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = 11 if len(texts) <= 40 else 9 if len(texts) <= 150 else 6
    side = 8.0 if len(texts) <= 150 else 14.0
    with matplotlib.rc_context({"svg.hashsalt": "nlpkit", "font.size": size}):
        figure = Figure(figsize=(side, 0.75 * side), dpi=150, facecolor=PAGE, layout="constrained")
        FigureCanvasAgg(figure)
        plane = figure.add_subplot(facecolor="white")
        plane.set_aspect("equal", adjustable="datalim")
        plane.margins(0.14)
        for line in plane.spines.values():
            line.set_color(LINE)
        plane.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        plane.set_xlabel(axes[0], color=SOFT)
        plane.set_ylabel(axes[1], color=SOFT)
        colours = [ORANGE if i in corners else BLUE if i < named else SOFT for i in range(len(texts))]
        plane.scatter(places[:, 0], places[:, 1], s=3 * size, c=colours, linewidths=0, zorder=3)
        if corners:
            _parallelogram(plane, places[corners])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            figure.canvas.draw()
            figure.set_layout_engine("none")  # what is drawn from here on moves nothing
            plane.autoscale(False)
            _label(
                plane,
                places,
                _edges(places[corners]),
                texts,
                [INK if i < named else SOFT for i in range(len(texts))],
            )
            data = io.BytesIO()
            options: dict[str, Any] = {"metadata": {"Date": None}} if form == "svg" else {}
            figure.savefig(data, format=form, facecolor=PAGE, **options)
        if any("missing from" in str(one.message) for one in said):
            console.warn("the font has no sign for some letters; they are drawn as boxes")
    return data.getvalue()


def _parallelogram(plane: "Axes", corners: np.ndarray) -> None:
    a, b, c, d = corners
    for start, end in ((a, c), (b, d)):
        plane.plot(*np.stack([start, end]).T, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for start, end in ((a, b), (c, d)):
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.6, "shrinkA": 5, "shrinkB": 5}
        plane.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops=arrow, zorder=2)


def _edges(corners: np.ndarray) -> np.ndarray:
    """Points (·, 2) along the four lines of the parallelogram, for labels to keep off; none without one."""
    if not len(corners):
        return corners
    a, b, c, d = corners
    along = np.linspace(0, 1, 60)[:, None]
    return np.concatenate([start + along * (end - start) for start, end in ((a, b), (c, d), (a, c), (b, d))])


def _label(
    plane: "Axes", places: np.ndarray, edges: np.ndarray, texts: list[str], colours: list[str]
) -> None:
    """Write each word beside its point, the nearest place first that covers nothing; else the least covered one."""
    points = plane.transData.transform(places)
    frame = plane.get_window_extent()
    unit = plane.figure.dpi / 72  # pixels a point
    radius = 4 * unit
    taken = np.array([(x - radius, y - radius, x + radius, y + radius) for x, y in points])
    if len(edges):
        drawn = plane.transData.transform(edges)
        taken = np.vstack([taken, np.hstack([drawn - unit, drawn + unit])])
    for i in range(len(texts)):
        x, y = points[i]
        label = plane.annotate(
            texts[i],
            places[i],
            xytext=(0, 0),
            textcoords="offset points",
            color=colours[i],
            parse_math=False,
            zorder=4,
        )
        box = label.get_window_extent()
        best: tuple[float, float, float, Box] | None = None
        for reach in (6, 9, 14, 20, 28, 38):
            for across, up in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
                # The point that is nearest to the word's own is at the box's side or corner.
                left = x + across * reach * unit * (0.75 if up else 1) - (1 - across) / 2 * box.width
                bottom = y + up * reach * unit * (0.75 if across else 1) - (1 - up) / 2 * box.height
                at = (left, bottom, left + box.width, bottom + box.height)
                cost = _covered(at, taken, i) + _outside(at, frame)
                if best is None or cost < best[0] - 1e-9:
                    best = (cost, left, bottom, at)
            if best is not None and best[0] == 0:
                break
        assert best is not None
        _, left, bottom, at = best
        label.set_position(((left - x) / unit, (bottom - y) / unit))
        label.set_verticalalignment("bottom")
        _leader(plane, (x, y), at, 13 * unit)
        taken = np.vstack([taken, [(at[0] - 3 * unit, at[1], at[2] + 3 * unit, at[3])]])


def _covered(box: Box, taken: np.ndarray, own: int) -> float:
    """How many square pixels of what is drawn the box would cover, its own point's left out."""
    wide = np.minimum(box[2], taken[:, 2]) - np.maximum(box[0], taken[:, 0])
    high = np.minimum(box[3], taken[:, 3]) - np.maximum(box[1], taken[:, 1])
    areas = np.maximum(wide, 0) * np.maximum(high, 0)
    areas[own] = 0
    return float(areas.sum())


def _outside(box: Box, frame: Any) -> float:
    """How many square pixels of the box lie outside the frame."""
    wide = max(0.0, min(box[2], frame.x1) - max(box[0], frame.x0))
    high = max(0.0, min(box[3], frame.y1) - max(box[1], frame.y0))
    return (box[2] - box[0]) * (box[3] - box[1]) - wide * high


def _leader(plane: "Axes", point: tuple[float, float], box: Box, least: float) -> None:
    """A thin line from a point to its label, where that stands far away."""
    x, y = min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])
    if np.hypot(x - point[0], y - point[1]) > least:
        ends = plane.transData.inverted().transform([point, (x, y)])
        plane.plot(*ends.T, color=LINE, linewidth=0.8, zorder=1)
