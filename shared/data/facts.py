"""What a data card says, in the same words on the site and on a terminal."""


def facts(card) -> list[tuple[str, str]]:
    """What a card says as (name, value) pairs; what does not apply is left out."""
    said = [
        ("shape", card.shape),
        ("type", card.dtype),
        ("units", card.units),
        ("classes", class_list(card)),
        ("licence", card.licence),
        ("citation", card.citation),
        ("source", card.source),
        ("package licence", card.package_licence),
        ("download", size(card.bytes) if card.bytes else None),
        ("note", card.note),
    ]
    return [(name, value) for name, value in said if value]


def class_list(card, longest: int = 12) -> str:
    """The classes of a data set with their counts where they are known; long lists are cut."""
    names = [f"{name} ({card.balance[name]:,})" if name in card.balance else name for name in card.classes]
    if len(names) > longest:
        names = [*names[:longest], f"… {len(names)} in all"]
    return ", ".join(names)


def size(count: int) -> str:
    """A number of bytes for people: ``12 kB``, ``3.4 MB``."""
    if count < 1000:
        return f"{count} bytes"
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
