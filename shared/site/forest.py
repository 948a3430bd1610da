"""The interval of a claim drawn as one line of a forest plot, as inline SVG."""

from collections.abc import Sequence
from html import escape

from shared.site.records import effect

WIDTH, HEIGHT, EDGE = 180, 26, 6
SEEDS, MEAN = 7, 18  # heights of the two lanes


def forest(claim: dict, record: dict) -> str:
    """Draw a claim's paired difference: one dot a seed; below them the mean and its interval.

    Zero is marked, and so is the margin where it is not zero. Metrics have different units, so every line has a scale
    of its own: zero is in the middle, and the farthest of dots, interval and margin reaches the edge. The direction
    that the claim predicts is on the right, also for metrics where lower is better.
    """
    difference, margin = claim["difference"], claim["margin"]
    sign = 1 if claim["higher_is_better"] else -1
    mean = sign * difference["mean"]
    # A single seed has no interval.
    low, high = (mean if difference[end] is None else sign * difference[end] for end in ("low", "high"))
    values = [sign * value for value in difference["values"]]
    text = f"{claim['arm']} minus {claim['baseline']}, {claim['metric']}: {effect(claim, record)}, {len(values)} seeds"
    if margin:
        text += f", margin {margin:g}"
    reach = max(map(abs, (*values, low, high, mean, margin))) or 1.0
    return drawn(values, (mean, low, high), reach, text, verdict_class(claim["verdict"]), margin)


def drawn(
    values: Sequence[float], interval: tuple[float, float, float], reach: float, text: str, kind: str, margin: float = 0
) -> str:
    """Draw differences, one a seed, with their (mean, low, high), on a scale from -reach to reach; ``text`` says it."""
    mean, low, high = interval

    def x(value: float) -> str:
        return f"{WIDTH / 2 + value / reach * (WIDTH / 2 - EDGE):.1f}"

    marks = [
        f'<line class="pr-zero" x1="{x(0)}" x2="{x(0)}" y1="1" y2="{HEIGHT - 1}"/>',
        *(f'<circle class="pr-seed" cx="{x(value)}" cy="{SEEDS}" r="2.2"/>' for value in values),
        f'<line class="pr-interval" x1="{x(low)}" x2="{x(high)}" y1="{MEAN}" y2="{MEAN}"/>',
        f'<circle class="pr-mean" cx="{x(mean)}" cy="{MEAN}" r="4"/>',
    ]
    if margin:
        marks.insert(1, f'<line class="pr-margin" x1="{x(margin)}" x2="{x(margin)}" y1="3" y2="{HEIGHT - 3}"/>')
    return (
        f'<svg class="pr-forest pr-{kind}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(text)}">{"".join(marks)}</svg>'
    )


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict; anything but the three verdicts (a smoke run) is ``unjudged``."""
    return verdict if verdict in ("holds", "contradicted", "inconclusive") else "unjudged"
