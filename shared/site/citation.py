"""Citations: one BibTeX entry a paper, made from the catalog."""

from collections.abc import Iterable

from shared.catalog import Entry

#: Characters that BibTeX reads as markup.
ESCAPES = str.maketrans({char: f"\\{char}" for char in "&%$#_"})


def bibtex(entry: Entry) -> str:
    """The BibTeX entry of a paper; its key is the chapter's name, such as ``hypertab``.

    The title is wrapped in a second pair of braces, so that styles keep its capitals.
    """
    fields = {
        "title": f"{{{entry.title.translate(ESCAPES)}}}",
        "author": " and ".join(author.translate(ESCAPES) for author in entry.authors),
        "year": str(entry.year),
        "note": entry.venue.translate(ESCAPES),
    }
    if entry.arxiv:
        fields |= {"eprint": entry.arxiv, "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{entry.arxiv}"}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{entry.name},\n{lines}\n}}\n"


def bibliography(entries: Iterable[Entry]) -> str:
    """The BibTeX file of all papers."""
    return "\n".join(map(bibtex, entries))
