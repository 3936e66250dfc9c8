"""Features of pictures looked at lately, made once as long as they fit into memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cachetools import LRUCache

from tasks.dedup.features import Features, extract_features


class FeatureCache:
    """Keeps the features of the pictures used last; threads may share it.

    Args:
        most: how many pictures' features are held; about 0.6 MB each.
    """

    def __init__(self, most: int) -> None:
        self._features: LRUCache[str, Features] = LRUCache(most)
        self._lock = threading.Lock()

    def held(self, names: Iterable[str]) -> dict[str, Features]:
        """Those of some pictures whose features are held; the caller keeps them alive."""
        with self._lock:
            return {name: self._features[name] for name in names if name in self._features}

    def get(self, name: str) -> Features | None:
        """The features of a picture, if they are held."""
        with self._lock:
            return self._features.get(name)

    def make(self, name: str, jpeg: bytes, packed: bytes = b"") -> Features:
        """The features of a picture: held, or made from its thumbnail and held from now on.

        Args:
            name: of the picture.
            jpeg: its thumbnail.
            packed: its local features, where another process has found them.

        Raises:
            ValueError: when the thumbnail cannot be read.
        """
        found = self.get(name)
        if found is not None:
            return found
        # Outside of the lock: two threads may make the same features, none waits for another's.
        made = extract_features(jpeg, packed)
        with self._lock:
            self._features[name] = made
        return made
