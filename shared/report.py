"""What a chapter shows beside its figures: the card at its top, tables, claims, verdicts, and the result record.

Everything is shown as HTML for the page with plain text beside it, for terminals and logs.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from IPython.display import display

if TYPE_CHECKING:
    from shared.experiment import Chapter, Claim, Interval


def show(html: str, text: str) -> None:
    """Display HTML with a plain-text form beside it."""
    display({"text/html": html, "text/plain": text}, raw=True)


def show_table(header: list[str], rows: list[tuple | list], caption: str = "") -> None:
    """Show a table: a row of headings and rows of text or numbers, all of the same length.

    Raises ValueError when a row's length is not the header's.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    if any(len(row) != len(header) for row in cells):
        raise ValueError(f"Every row of the table needs {len(header)} cells, one a heading: {', '.join(header)}.")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    html = f'<table class="papers-table">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    padded = [[cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in [header, *cells]]
    lines = ["  ".join(line).rstrip() for line in padded]
    show(f'<div class="papers-scroll">{html}</div>', "\n".join(([caption] if caption else []) + lines))


def show_note(text: str) -> None:
    """Show one small line of text."""
    show(f'<p class="papers-note">{escape(text)}</p>', text)


def format_interval(value: Interval, digits: int = 2, signed: bool = False) -> str:
    """``87.31 [86.90, 87.72]``; a difference carries its sign; one seed has no interval."""
    sign = "+" if signed else ""
    mean = f"{value.mean:{sign}.{digits}f}"
    if len(value.values) < 2:
        return mean
    return f"{mean} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def show_card(chapter: Chapter) -> None:
    """Show the card at a chapter's top: the paper, its links, the data, the profile and the device."""
    entry = chapter.entry
    links = []
    if entry.arxiv:
        links.append(("arXiv " + entry.arxiv, f"https://arxiv.org/abs/{entry.arxiv}"))
    if entry.code:
        links.append((f"official code ({entry.code})", f"https://github.com/{entry.code}"))
    data = ", ".join(entry.data.get(chapter.profile, []))
    venue = entry.venue if str(entry.year) in entry.venue else f"{entry.venue}, {entry.year}"
    rows = [
        ("Paper", f"{', '.join(entry.authors)}. {entry.title}. {venue}.", None),
        *([("Links", " · ".join(name for name, _ in links), links)] if links else []),
        ("Data", data, None),
        ("Profile", f"{chapter.profile}, seed {chapter.seed}", None),
        ("Device", chapter.device_line, None),
    ]
    items = []
    for name, value, anchors in rows:
        linked = [f'<a href="{escape(url)}">{escape(text)}</a>' for text, url in anchors or ()]
        shown = " · ".join(linked) or escape(value)
        items.append(f"<dt>{escape(name)}</dt><dd>{shown}</dd>")
    html = f'<div class="papers-card"><dl>{"".join(items)}</dl></div>'
    show(html, "\n".join(f"{name}: {value}" for name, value, _ in rows))


def _rule(claim: Claim) -> str:
    """The claim's rule in words: which difference has to lie where."""
    margin = claim.margin if claim.higher_is_better else 0.0 - claim.margin  # 0, never -0
    side = "above" if claim.higher_is_better else "below"
    return f"{claim.metric}: {claim.arm} minus {claim.baseline}, 95% interval {side} {margin:g}"


def show_claim(claim: Claim) -> None:
    """Show a claim as it is declared, with the rule that will judge it."""
    show(
        f'<p class="papers-claim"><strong>Claim ({claim.role}).</strong> {escape(claim.text)} '
        f"<em>{escape(_rule(claim))}</em></p>",
        f"Claim ({claim.role}): {claim.text} [{_rule(claim)}]",
    )


def show_verdicts(judged: list[tuple[Claim, Interval, str, list[int]]], profile: str) -> None:
    """Show each claim's verdict with its interval; at smoke scale say that nothing is judged."""
    for claim, difference, verdict, seeds in judged:
        if verdict != "not judged":
            word = verdict
        elif profile == "smoke":
            word = "not judged at smoke scale"
        else:
            word = f"not judged with {len(seeds)} seeds (a verdict needs 5)"
        digits = 4 if max(abs(difference.mean), abs(claim.margin)) < 0.1 else 2
        measured = format_interval(difference, digits, signed=True)
        show(
            f'<p class="papers-verdict papers-{verdict.replace(" ", "-")}"><strong>{escape(word)}</strong> '
            f"{escape(claim.text)} <em>{escape(claim.metric)}: {escape(claim.arm)} minus {escape(claim.baseline)} = "
            f"{escape(measured)}</em></p>",
            f"{word}: {claim.text} [{claim.metric}: {claim.arm} minus {claim.baseline} = {measured}]",
        )


def show_record(mime: str, record: dict) -> None:
    """Emit the result record as a JSON output that pages do not draw and tools read."""
    display({mime: record, "text/plain": f"Result record of {record['slug']}, profile {record['profile']}"}, raw=True)
