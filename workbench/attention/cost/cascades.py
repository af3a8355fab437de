"""The cascades by which operators are counted: keys have the ranks m1, m0, queries p, widths of keys e, of values f.

The softmax cascades are FuseMax's (arXiv 2406.10491, sections IV-B to IV-E), with its names of tensors: GM the maximum,
SN numerator, SD denominator; L… of one tile, R… running. The others are ours, in the same notation.
"""

from __future__ import annotations

import re

_SCORES = "QK[p,m1,m0] = Q[p,e] K[m1,m0,e]"

#: exp without a maximum, then divided.
UNSTABLE_SOFTMAX = f"""
{_SCORES}
SN[p,m1,m0] = exp(QK[p,m1,m0])
SD[p] = sum SN[p,m1,m0]
A[p,m1,m0] = SN[p,m1,m0] / SD[p]
AV[p,f] = A[p,m1,m0] V[m1,m0,f]
"""
#: The same, divided at the end.
UNSTABLE_SOFTMAX_DEFERRED = f"""
{_SCORES}
SN[p,m1,m0] = exp(QK[p,m1,m0])
SD[p] = sum SN[p,m1,m0]
SNV[p,f] = SN[p,m1,m0] V[m1,m0,f]
AV[p,f] = SNV[p,f] / SD[p]
"""
#: Softmax as it is written: maximum, sum, weights.
SOFTMAX = f"""
{_SCORES}
GM[p] = max QK[p,m1,m0]
SN[p,m1,m0] = exp(QK[p,m1,m0] - GM[p])
SD[p] = sum SN[p,m1,m0]
A[p,m1,m0] = SN[p,m1,m0] / SD[p]
AV[p,f] = A[p,m1,m0] V[m1,m0,f]
"""
#: The division comes last.
SOFTMAX_DEFERRED = f"""
{_SCORES}
GM[p] = max QK[p,m1,m0]
SN[p,m1,m0] = exp(QK[p,m1,m0] - GM[p])
SD[p] = sum SN[p,m1,m0]
SNV[p,f] = SN[p,m1,m0] V[m1,m0,f]
AV[p,f] = SNV[p,f] / SD[p]
"""
#: Each tile with its own maximum, put right once all are known (TileFlow).
LOCAL_MAXIMUM_SOFTMAX = f"""
{_SCORES}
LM[p,m1] = max QK[p,m1,m0]
SLN[p,m1,m0] = exp(QK[p,m1,m0] - LM[p,m1])
SLD[p,m1] = sum SLN[p,m1,m0]
GM[p] = max LM[p,m1]
PRM[p,m1] = exp(LM[p,m1] - GM[p])
SD[p] = sum SLD[p,m1] PRM[p,m1]
A[p,m1,m0] = SLN[p,m1,m0] PRM[p,m1] / SD[p]
AV[p,f] = A[p,m1,m0] V[m1,m0,f]
"""


def running_softmax(scores: str = _SCORES, values: str = "V[m1,m0,f]") -> str:
    """Softmax with a running maximum (FlashAttention-2), of other scores QK or values."""
    return f"""
{scores}
LM[p,m1] = max QK[p,m1,m0]
RM[p,m1] = max(RM[p,m1-1], LM[p,m1])
SLN[p,m1,m0] = exp(QK[p,m1,m0] - RM[p,m1])
SLD[p,m1] = sum SLN[p,m1,m0]
SLNV[p,m1,f] = SLN[p,m1,m0] {values}
PRM[p,m1] = exp(RM[p,m1-1] - RM[p,m1])
RD[p,m1] = RD[p,m1-1] PRM[p,m1] + SLD[p,m1]
RNV[p,m1,f] = RNV[p,m1-1,f] PRM[p,m1] + SLNV[p,m1,f]
AV[p,f] = RNV[p,M1,f] / RD[p,M1]
"""


RUNNING_SOFTMAX = running_softmax()


def _second(cascade: str) -> str:
    """The same cascade again: over the same keys, with values V2, and other names for the rest."""
    return re.sub(r"([A-Z]+)\[", r"\g<1>2[", cascade).replace("K2[m1", "K[m1")


_ADDED = "V2[m1,m0,f] = V[m1,m0,f] + AV[p,f]"
#: Attention, its result added to the values, and attention again.
TWO_SOFTMAXES = SOFTMAX + _ADDED + _second(SOFTMAX)
TWO_RUNNING_SOFTMAXES = RUNNING_SOFTMAX + _ADDED + _second(RUNNING_SOFTMAX)

#: Features of q and k in place of a softmax: ``φ(q) S / φ(q) Z``; as written, through the weights.
LINEAR_WEIGHTS = """
SN[p,m1,m0] = FQ[p,d] FK[m1,m0,d]
SD[p] = sum SN[p,m1,m0]
A[p,m1,m0] = SN[p,m1,m0] / SD[p]
AV[p,f] = A[p,m1,m0] V[m1,m0,f]
"""
LINEAR = """
S[d,f] = FK[m1,m0,d] V[m1,m0,f]
Z[d] = sum FK[m1,m0,d]
AV[p,f] = FQ[p,d] S[d,f] / (FQ[p,d] Z[d])
"""
#: With a decay and no denominator.
DECAYED_WEIGHTS = f"""
{_SCORES}
A[p,m1,m0] = QK[p,m1,m0] D[p,m1,m0]
AV[p,f] = A[p,m1,m0] V[m1,m0,f]
"""
#: By chunks m1: within the chunk, and the state S of those before.
DECAYED_LINEAR = """
QK[m1,p0,m0] = Q[m1,p0,e] K[m1,m0,e] D[p0,m0]
O[m1,p0,f] = QK[m1,p0,m0] V[m1,m0,f] + D[p0,B] Q[m1,p0,e] S[m1-1,e,f]
S[m1,e,f] = D[E,B] S[m1-1,e,f] + D[E,m0] K[m1,m0,e] V[m1,m0,f]
"""
#: The delta rules by chunks (WY form): T inverts a triangle, U and W are the chunk's corrected values and keys.
DELTA = """
KK[m1,m0,j] = B[m1,m0] K[m1,m0,e] K[m1,j,e]
T[m1,m0,j] = inverse(KK[m1,m0,j])
U[m1,m0,f] = T[m1,m0,j] B[m1,j] V[m1,j,f]
W[m1,m0,e] = T[m1,m0,j] B[m1,j] K[m1,j,e]
N[m1,m0,f] = U[m1,m0,f] - W[m1,m0,e] S[m1-1,e,f]
O[m1,p0,f] = Q[m1,p0,e] S[m1-1,e,f] + Q[m1,p0,e] K[m1,m0,e] N[m1,m0,f]
S[m1,e,f] = S[m1-1,e,f] + K[m1,m0,e] N[m1,m0,f]
"""
#: A memory W that takes a gradient step at every key; retention (R) is a function of the memory alone.
GRADIENT_MEMORY = """
E[m1,m0,f] = W[m1,m0-1,e,f] K[m1,m0,e] - V[m1,m0,f]
G[m1,m0,e,f] = E[m1,m0,f] K[m1,m0,e]
R[m1,m0,e,f] = R[m1,m0-1,e,f] - G[m1,m0,e,f]
W[m1,m0,e,f] = normalise(R[m1,m0,e,f])
O[m1,m0,f] = W[m1,m0,e,f] Q[m1,m0,e]
"""
#: RAT: gated running keys and values in a chunk; softmax over the chunks' last ones and the query's own.
CHUNK_STATES = """
KG[m1,m0,e] = G[m1,m0,e] KG[m1,m0-1,e] + K[m1,m0,e]
VG[m1,m0,f] = G[m1,m0,f] VG[m1,m0-1,f] + V[m1,m0,f]
QC[p,m1] = Q[p,e] KG[m1,M0,e]
RM[p,m1] = max(RM[p,m1-1], QC[p,m1])
PRM[p,m1] = exp(RM[p,m1-1] - RM[p,m1])
RD[p,m1] = RD[p,m1-1] PRM[p,m1] + exp(QC[p,m1] - RM[p,m1])
RNV[p,m1,f] = RNV[p,m1-1,f] PRM[p,m1] + exp(QC[p,m1] - RM[p,m1]) VG[m1,M0,f]
OWN[p] = Q[p,e] KG[P1,P0,e]
AV[p,f] = merge(RNV[p,M1,f], RD[p,M1], RM[p,M1], OWN[p], VG[P1,P0,f])
"""

_SELECTED = "QK[p,m1,m0] = Q[p,e] K[m1,m0,e] SELECTED[p,m1]"
#: MoBA and its kin: the mean key of each block chooses the blocks. TOP is the smallest score that is selected.
_BLOCK_MEANS = """
KM[m1,e] = mean K[m1,m0,e]
G[p,m1] = Q[p,e] KM[m1,e]
TOP[p] = kth-largest G[p,m1]
SELECTED[p,m1] = G[p,m1] >= TOP[p]
"""
BLOCK_MEANS_SOFTMAX = _BLOCK_MEANS + running_softmax(_SELECTED)
#: Pyramid: blocks are scored by their largest weight, and pooled the more the lower they rank.
_IMPORTANCE = """
QS[p,m1,m0] = Q[p,e] K[m1,m0,e]
BM[p,m1] = max QS[p,m1,m0]
ROW[p] = max BM[p,m1]
IMPORTANCE[p,m1] = exp(BM[p,m1] - ROW[p])
RANKS[p] = sort IMPORTANCE[p,m1]
SELECTED[p,m1] = pooling(IMPORTANCE[p,m1], RANKS[p])
"""
POOLED_SOFTMAX = _IMPORTANCE + running_softmax(
    "QK[p,m1,m0] = Q[p,e] K[m1,m0,e] SELECTED[p,m1]", "V[m1,m0,f] SELECTED[p,m1]"
)
#: Proxy heads: the softmax of a mean head scores the blocks for its group.
_PROXY = """
QS[p,m1,m0] = QG[p,e] K[m1,m0,e]
BM[p,m1] = max QS[p,m1,m0]
BS[p,m1] = sum exp(QS[p,m1,m0] - BM[p,m1])
ROW[p] = max BM[p,m1]
ROWSUM[p] = sum BS[p,m1] exp(BM[p,m1] - ROW[p])
SCORE[p,m1] = exp(BM[p,m1] - ROW[p]) / ROWSUM[p]
TOP[p] = kth-largest SCORE[p,m1]
SELECTED[p,m1] = SCORE[p,m1] >= TOP[p]
"""
PROXY_SOFTMAX = _PROXY + running_softmax(_SELECTED)

#: Logits of the keys alone.
QUERY_FREE = """
L[m1,m0] = B[m1,m0,e] K[m1,m0,e]
GM[] = max L[m1,m0]
SN[m1,m0] = exp(L[m1,m0] - GM[])
SD[] = sum SN[m1,m0]
A[m1,m0] = SN[m1,m0] / SD[]
AV[f] = A[m1,m0] V[m1,m0,f]
"""
RUNNING_QUERY_FREE = """
L[m1,m0] = B[m1,m0,e] K[m1,m0,e]
LM[m1] = max L[m1,m0]
RM[m1] = max(RM[m1-1], LM[m1])
SLN[m1,m0] = exp(L[m1,m0] - RM[m1])
PRM[m1] = exp(RM[m1-1] - RM[m1])
RD[m1] = RD[m1-1] PRM[m1] + SLN[m1,m0]
RNV[m1,f] = RNV[m1-1,f] PRM[m1] + SLN[m1,m0] V[m1,m0,f]
AV[f] = RNV[M1,f] / RD[M1]
"""
#: Weights that need no keys: a stored matrix, or a mean.
STORED_WEIGHTS = "AV[p,f] = A[p,m1,m0] V[m1,m0,f]"
MEAN = "AV[p,f] = sum V[m1,m0,f] / N[p]"
#: Nothing moves between positions.
POSITION_WISE = "Y[p,f] = G[p,d] X[p,d]"

#: Softmax over receivers (queries p1, p0): a key's weights sum to one over them.
REVERSED = """
QK[p1,p0,m1,m0] = Q[p1,p0,e] K[m1,m0,e]
GM[m1,m0] = max QK[p1,p0,m1,m0]
SN[p1,p0,m1,m0] = exp(QK[p1,p0,m1,m0] - GM[m1,m0])
SD[m1,m0] = sum SN[p1,p0,m1,m0]
A[p1,p0,m1,m0] = SN[p1,p0,m1,m0] / SD[m1,m0]
AV[p1,p0,f] = A[p1,p0,m1,m0] V[m1,m0,f]
"""
RUNNING_REVERSED = """
QK[p1,p0,m1,m0] = Q[p1,p0,e] K[m1,m0,e]
LM[p1,m1,m0] = max QK[p1,p0,m1,m0]
RM[p1,m1,m0] = max(RM[p1-1,m1,m0], LM[p1,m1,m0])
RD[p1,m1,m0] = RD[p1-1,m1,m0] exp(RM[p1-1,m1,m0] - RM[p1,m1,m0]) + exp(QK[p1,p0,m1,m0] - RM[p1,m1,m0])
VD[m1,m0,f] = V[m1,m0,f] exp(RM[P1,m1,m0]) / RD[P1,m1,m0]
AV[p1,p0,f] = exp(QK[p1,p0,m1,m0]) VD[m1,m0,f]
"""
