"""Top-K recommendation: every item is ranked for every user, none is sampled; metrics, a common split, popularity."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.data.ratings import leave_one_out


def top_k(scores: Tensor, k: int, seen: Tensor | None = None) -> Tensor:
    """The k items with the highest scores, best first: (n, k) item numbers for scores (n, items).

    seen: (n, items) bool, items to leave out of the ranking, because the user has met them. Raises ValueError when a
    user has fewer than k items left, or a score is not a number: such a ranking would be made up.
    """
    if scores.isnan().any():
        raise ValueError("Some scores are not numbers: a model that diverged cannot be ranked.")
    if seen is None:
        left = scores.shape[1]
    else:
        left = int((~seen).sum(1).min())
        scores = scores.masked_fill(seen, -torch.inf)
    if left < k:
        raise ValueError(f"Some user has only {left} items left to rank, fewer than {k}: ask for a smaller k.")
    return scores.topk(k, dim=1).indices


def recall(top: Tensor, relevant: Tensor) -> Tensor:
    """Share of a user's relevant items that are among the top ones: (n,), NaN for a user without relevant items.

    top: (n, k) from `top_k`; relevant: (n, items) bool. With one relevant item this is the hit rate.
    """
    return relevant.gather(1, top).sum(1) / relevant.sum(1)


def ndcg(top: Tensor, relevant: Tensor) -> Tensor:
    """Normalised discounted cumulative gain with gains of 0 and 1: (n,), NaN for a user without relevant items.

    A hit on rank r counts 1 / log2(r + 1); the sum is divided by what the best order would reach, with its
    min(k, relevant) hits on the first ranks. Source: Järvelin and Kekäläinen, 2002.
    """
    k = top.shape[1]
    discount = 1 / torch.arange(2, k + 2, dtype=torch.float64, device=top.device).log2()
    gained = (relevant.gather(1, top) * discount).sum(1)
    ideal = torch.cat([discount.new_zeros(1), discount.cumsum(0)])  # by the number of relevant items
    return gained / ideal[relevant.sum(1).clamp(max=k)]


def evaluate(scores: Tensor, relevant: Tensor, seen: Tensor | None = None, k: int = 20) -> dict[str, float]:
    """`Recall@k` and `NDCG@k`, means over the users who have relevant items, as fractions.

    scores (n, items), relevant and seen (n, items) bool. Raises what `top_k` does, and ValueError when nothing is
    relevant to anybody.
    """
    if not relevant.any():
        raise ValueError("No user has a relevant item: there is nothing to find.")
    top = top_k(scores, k, seen)
    found = {f"Recall@{k}": recall(top, relevant), f"NDCG@{k}": ndcg(top, relevant)}
    return {name: values.double().nanmean().item() for name, values in found.items()}


@dataclass(frozen=True)
class LastOut:
    """Ratings split user by user: the last item is for the test, the one before for validation, the rest for training.

    Users and items are numbered from 0 in the order of their numbers at source. train: (n, 2) int64, rows of (user,
    item), user by user, each user's in the order of time; rating (n,) float32 and timestamp (n,) int64, seconds, belong
    to these rows. valid, test: (users,) int64, each user's item. users, items: how many there are.
    """

    users: int
    items: int
    train: Tensor
    rating: Tensor
    timestamp: Tensor
    valid: Tensor
    test: Tensor

    def seen(self, part: str) -> Tensor:
        """(users, items) bool: what a user has met before "valid" or "test", the validation item included for the test.

        Raises ValueError for another part.
        """
        if part not in ("valid", "test"):
            raise ValueError(f"There is no part {part!r} to be ranked for: ask for 'valid' or 'test'.")
        mask = torch.zeros(self.users, self.items, dtype=torch.bool, device=self.train.device)
        mask[self.train[:, 0], self.train[:, 1]] = True
        if part == "test":
            mask[torch.arange(self.users, device=mask.device), self.valid] = True
        return mask

    def evaluate(self, scores: Tensor, part: str, k: int = 20) -> dict[str, float]:
        """`Recall@k` and `NDCG@k` of scores (users, items) on "valid" or "test", the items seen before left out."""
        seen = self.seen(part)
        relevant = torch.zeros_like(seen)
        relevant[torch.arange(self.users, device=seen.device), getattr(self, part)] = True
        return evaluate(scores, relevant, seen, k)


def leave_last_out(ratings, seed: int, device: torch.device | str = "cpu") -> LastOut:
    """The common protocol of the book's recommendation chapters, for a `shared.data` Ratings container.

    Every rating is an interaction, whatever its stars. Ratings of a user at the same second come in an order drawn
    with ``seed``. Raises ValueError when some user has fewer than three ratings or met an item twice.
    """
    frame, items = ratings.ratings, ratings.items.index
    if frame.groupby("user").size().min() < 3:
        raise ValueError("Some user has fewer than three ratings: leave such users out first.")
    if frame.duplicated(["user", "item"]).any():
        raise ValueError("Some user rated an item twice: keep one of these ratings first.")
    users = sorted(frame["user"].unique())
    parts = []
    for part in leave_one_out(frame, seed):
        numbered = part.assign(user=part["user"].map({u: k for k, u in enumerate(users)}))
        parts.append(numbered.assign(item=items.get_indexer(part["item"])).sort_values("user", kind="stable"))
    train, valid, test = parts

    def column(part, name, dtype=torch.int64):
        return torch.tensor(part[name].to_numpy(), dtype=dtype, device=device)

    return LastOut(
        users=len(users),
        items=len(items),
        train=torch.stack([column(train, "user"), column(train, "item")], 1),
        rating=column(train, "rating", torch.float32),
        timestamp=column(train, "timestamp"),
        valid=column(valid, "item"),
        test=column(test, "item"),
    )


def popularity(split: LastOut) -> Tensor:
    """(users, items) float32: how often each item was met in training, the same for every user."""
    counts = torch.bincount(split.train[:, 1], minlength=split.items).float()
    return counts.expand(split.users, -1)
