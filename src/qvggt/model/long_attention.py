"""Attention over sequences longer than a chunk, whose queries, keys and values are computed a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qvggt.model.layers import Block, RopeTable
from qvggt.model.token_merging import Groups, Merging, Own, Pooling


def attend_long(
    block: Block, x: Tensor, out: Tensor, rope: RopeTable | None, merging: Merging, chunk_tokens: int
) -> None:
    """Write the attention branch of sequences [B, N, C] longer than a chunk, added to them, to ``out``."""
    chunks = [slice(start, start + chunk_tokens) for start in range(0, x.shape[1], chunk_tokens)]
    queries, keys, values, own = _queries_keys_values(block, x, out, rope, merging=merging, chunks=chunks)
    bias = merging.bias(keys.dtype)
    dtype = block.attn.arithmetic.dtype or x.dtype
    owned = [None if own is None else own.part(chunk) for chunk in chunks]
    results = (
        block.attn.attend(part, keys, values, bias, dtype=dtype, own=ours)
        for part, ours in zip(queries.split(chunk_tokens, 2), owned, strict=False)
    )
    if merging.queries is not None:
        whole = torch.cat(list(results), 1)  # [B, M, C]
        results = (whole[:, merging.queries.of[chunk]] for chunk in chunks)
    for chunk, result in zip(chunks, results, strict=True):
        block.ls1(x[:, chunk], result, out[:, chunk])


def _queries_keys_values(
    block: Block, x: Tensor, out: Tensor, rope: RopeTable | None, merging: Merging, chunks: Sequence[slice]
) -> tuple[Tensor, Tensor, Tensor, Own | None]:
    """Return queries, keys and values of x [B, N, C] at full length, after merging, and the tokens' own keys."""
    batch, length, dim = x.shape
    heads = block.attn.heads
    dtype = block.attn.arithmetic.cache_dtype or x.dtype
    sizes = batch, heads, length, dim // heads
    # Unless the result overwrites x, its memory holds the queries until the result of each chunk takes their place.
    is_free = out.data_ptr() != x.data_ptr() and dtype == x.dtype
    place = out.view(batch, length, heads, -1).transpose(1, 2) if is_free else None  # [B, heads, N, C/heads]
    queries = Pool(merging.queries, sizes=sizes, dtype=dtype, device=x.device, place=place)
    pooling = merging.pooling
    keys, values = (Pool(merging.keys, sizes, dtype, x.device, pooling=pooling) for _ in range(2))
    own = None if pooling is None else Own.empty(queries.tokens())
    for chunk in chunks:
        angles = None if rope is None else (rope[0][chunk], rope[1][chunk])
        parts = block.attn.queries_keys_values(block.norm1(x[:, chunk]), angles)
        for pool, part in zip((queries, keys, values), parts, strict=True):
            pool.add(chunk, part)
        if own is not None and pooling is not None:
            own.put(chunk, Own.of(*parts, pooling.own[chunk]))
        del parts, part  # or they would be held while the next chunk is computed
    return queries.tokens(), keys.tokens(), values.tokens(), own


class Pool:
    """Collects tokens that are computed in chunks; with groups, it reduces them as ``averaged`` does.

    Args:
        groups: of the tokens, or None.
        sizes: B, heads, N and C of all tokens.
        dtype: of the result.
        device: of the tokens.
        place: [B, heads, N, C] memory to use for the result if there are no groups.
        pooling: adds the mean of the reduced tokens to the result; None for no mean.
    """

    def __init__(
        self,
        groups: Groups | None,
        sizes: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        place: Tensor | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        self._groups, self._dtype, self._pooling = groups, dtype, pooling
        if groups is not None:
            sizes = (*sizes[:2], len(groups.log_count) + (pooling is not None), sizes[3])
        if groups is None or groups.sample is not None:
            self._tokens = torch.empty(sizes, dtype=dtype, device=device) if place is None else place
        else:
            self._tokens = torch.zeros(sizes, dtype=torch.promote_types(dtype, torch.float32), device=device)

    def add(self, at: slice, part: Tensor) -> None:
        """Add the tokens [B, heads, n, C] at positions ``at`` of the N."""
        if self._groups is None:
            self._tokens[:, :, at] = part
        elif self._groups.sample is not None:
            sample = self._groups.sample
            here = ((sample >= at.start) & (sample < at.stop)).nonzero()[:, 0]
            self._tokens[:, :, here] = part[:, :, sample[here] - at.start].to(self._dtype)
        else:
            self._tokens.index_add_(2, self._groups.of[at], part.to(self._tokens.dtype))

    def tokens(self) -> Tensor:
        """Return the tokens [B, heads, N, C], or their averages or samples [B, heads, M, C], and their mean."""
        if self._groups is None:
            return self._tokens
        count = len(self._groups.log_count)
        reduced = self._tokens[:, :, :count]
        if self._groups.sample is None:
            self._groups.mean(reduced)
        if self._pooling is not None:
            self._tokens[:, :, count:] = self._pooling.mean(reduced)
        return self._tokens.to(self._dtype)


def even(total: int, most: int) -> int:
    """Return the chunk length, at most ``most``, that cuts ``total`` into the fewest chunks of about equal length."""
    return -(-total // -(-total // most))
