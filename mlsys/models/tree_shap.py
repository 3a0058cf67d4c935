"""Exact Shapley values of trees, by their paths (TreeSHAP).

Where a feature is not known, a row goes both ways at its splits, each with the share of the training rows that went
there. A leaf of value v below questions of features 1 to m counts with v · Π f(j), where f(j) = o(j) for a feature that
is known, 1 if the row passes all its questions on the path and else 0, and f(j) = z(j), the product of the shares, for
one that is not. The Shapley value of feature i in that game is

    v (o(i) - z(i)) ∫ Π(j ≠ i) (t o(j) + (1 - t) z(j)) dt   over t from 0 to 1,

because the weight |S|! (m - 1 - |S|)! / m! of a set S of known features is ∫ t^|S| (1 - t)^(m - 1 - |S|) dt. The
product is a polynomial in t of degree m - 1, which Gauss-Legendre quadrature with m / 2 nodes integrates exactly.
Products are made from the root down and summed from the leaves up, so that all features of all leaves take one pass
over the nodes; what a further question of the same feature replaces is divided out again.

References
----------
Lundberg et al. (2020), as in `mlsys.models.contributions`, section "Tree SHAP", algorithm 1: the same values, leaf by
leaf.
Yu, Xu, Bifet & Read (2022), "Linear TreeShap", NeurIPS, arXiv:2209.08192: one pass, with polynomials in place of their
values.
Owen (1972), "Multilinear extensions of games", Management Science 18(5), doi:10.1287/mnsc.18.5.64: the integral.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_CELLS = 1 << 20
"""Rows × nodes × quadrature nodes at a time: some ten temporaries of 8 MB."""

LEAST_SHARE = 1e-9
"""Share that a way is taken to have at least: one that only rows without weight went has none."""


class TreeShap:
    """Trees in one table of nodes, prepared; the arrays are those of `mlsys.models.trees.Forest`.

    `cover`, (nodes,), is the weight of the training rows at each node.
    """

    def __init__(
        self,
        roots: NDArray[np.integer],
        feature: NDArray[np.integer],
        limit: NDArray[np.float64],
        children: NDArray[np.integer],
        missing_right: NDArray[np.bool_],
        value: NDArray[np.float64],
        cover: NDArray[np.floating],
    ) -> None:
        nodes = np.arange(feature.size)
        self._is_leaf = children[:, 0] == nodes
        self._trees, self._children, self._value = roots.size, children.astype(np.intp), value
        self._limit, self._missing_right = limit, missing_right
        self._asked = feature.astype(np.intp)
        self._parent, self._is_right = self._edges(nodes)
        self._about = self._asked[self._parent]
        self._levels = self._by_level(roots.astype(np.intp))
        below = self._levels[1:]
        share = np.ones(feature.size)
        edges = np.concatenate(below) if below else nodes[:0]
        whole = np.maximum(cover[self._parent[edges]].astype(np.float64), np.finfo(np.float64).tiny)
        share[edges] = np.maximum(cover[edges] / whole, LEAST_SHARE)
        self._before = self._edges_before(roots, below)
        self._share, path, features = share.copy(), share.copy(), np.zeros(feature.size, np.intp)
        for level in below:
            up, before = self._parent[level], self._before[level]
            self._share[level] *= np.where(before < 0, 1.0, self._share[before])
            path[level] *= path[up]
            features[level] = features[up] + (before < 0)
        leaves = nodes[self._is_leaf]
        self._base = (value[leaves] * path[leaves, None]).sum(axis=0) / self._trees
        nodes_of_rule = max(1, -(-int(features.max(initial=0)) // 2))
        t, weights = np.polynomial.legendre.leggauss(nodes_of_rule)
        self._t, self._weights = (t + 1) / 2, weights / 2

    def _edges(self, nodes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The parent of each node, itself for a root, and whether it is the child to the right."""
        inner = nodes[~self._is_leaf]
        parent, is_right = nodes.copy(), np.zeros(nodes.size, bool)
        for side in (0, 1):
            parent[self._children[inner, side]] = inner
        is_right[self._children[inner, 1]] = True
        return parent, is_right

    def _by_level(self, roots: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """The nodes of all trees, from the roots down."""
        levels = [roots]
        while True:
            inner = levels[-1][~self._is_leaf[levels[-1]]]
            if not inner.size:
                return levels
            levels.append(self._children[inner].reshape(-1))

    def _edges_before(self, roots: NDArray[np.integer], below: list[NDArray[np.intp]]) -> NDArray[np.intp]:
        """The last node above each that was reached by a question about the same feature; -1 where there is none."""
        before, is_root = np.full(self._parent.size, -1), np.zeros(self._parent.size, bool)
        is_root[roots] = True
        for level in below:
            above, sought = self._parent[level], np.ones(level.size, bool)
            while (sought := sought & ~is_root[above]).any():
                hits = sought & (self._about[above] == self._about[level])
                before[level[hits]] = above[hits]
                sought &= ~hits
                above = np.where(sought, self._parent[above], above)
        return before

    def contributions(
        self, X: NDArray[np.float32], outputs: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Contributions of the features, (rows, features), to one output of each row, and the base, (rows,)."""
        values = np.zeros(X.shape)
        step = max(1, BLOCK_CELLS // (self._parent.size * self._t.size))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            values[rows] = self._block(X[rows], outputs[rows])
        return values, self._base[outputs]

    def _block(self, X: NDArray[np.float32], outputs: NDArray[np.intp]) -> NDArray[np.float64]:
        known = self._known(X)
        # 1. from the root down: products over the features of a path, at each node of the quadrature
        t, before = self._t, np.maximum(self._before, 0)
        is_first = (self._before < 0)[:, None]
        factor = np.where(known[:, :, None], t, 0.0) + ((1 - t) * self._share[:, None])[None]
        ratio = factor / np.where(is_first, 1.0, factor[:, before])
        total = np.ones_like(factor)
        for level in self._levels[1:]:
            total[:, level] = total[:, self._parent[level]] * ratio[:, level]
        # 2. from the leaves up: the sum of what the leaves below a node count
        total *= np.where(self._is_leaf[:, None], self._value[:, outputs], 0.0).T[:, :, None]
        for level in reversed(self._levels):
            inner = level[~self._is_leaf[level]]
            total[:, inner] = total[:, self._children[inner, 0]] + total[:, self._children[inner, 1]]
        # 3. what a feature changes there, less what a further question of it replaces
        change = (known - self._share)[:, :, None] / factor
        change -= np.where(is_first, 0.0, change[:, before])
        terms = (change * total) @ self._weights
        for root in self._levels[0]:
            terms[:, root] = 0.0
        width = X.shape[1]
        place = np.arange(len(X))[:, None] * width + self._about
        summed = np.bincount(place.reshape(-1), terms.reshape(-1), minlength=len(X) * width)
        return np.asarray(summed.reshape(len(X), width) / self._trees)

    def _known(self, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell of each node whether a row passes all questions on its path about the feature of the last one."""
        x = X[:, self._asked]
        goes_right = np.where(np.isnan(x), self._missing_right, x > self._limit)
        known = goes_right[:, self._parent] == self._is_right
        for level in self._levels[1:]:
            before = self._before[level]
            known[:, level] &= (before < 0) | known[:, np.maximum(before, 0)]
        return np.asarray(known, np.bool_)
