"""Beam search for a non-autoregressive model with a CTC head (Paraformer).

The acoustic model has already given each position its distribution over tokens, whatever stands before; only CTC
connects the positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funasr.decode.beam_search import BeamSearch, SearchWeights
from funasr.decode.ctc_prefix_score import CTCPrefixScorer
from funasr.decode.hypothesis import Hypothesis
from funasr.utils.errors import ConfigError


class _PositionDecoder:
    """The acoustic model seen as a step decoder: it answers with the next row, whatever the last tokens were."""

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> dict[str, Tensor]:
        return {"position": torch.zeros_like(memory_lengths)}

    def step(self, last_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        position = state["position"]
        return self.log_probs[position], {"position": position + 1}


@torch.no_grad()
def paraformer_beam_search(
    am_log_probs: Tensor,
    ctc_log_probs: Tensor,
    ctc_weight: float,
    beam_size: int,
    nbest: int,
    penalty: float,
    sos: int,
    eos: int,
    blank: int = 0,
) -> list[Hypothesis]:
    """The n-best token sequences of one utterance, best first, each from <s> to </s>.

    am_log_probs: (positions, vocab) of the decoder, always with weight 1; ctc_log_probs: (frames, vocab), whose prefix
    score counts with `ctc_weight`; `penalty` is added per token. Hypotheses are closed with </s> after the last
    position without scoring it; one that takes </s> earlier ends there. Without positions or frames the result is
    (sos, eos) with score 0. Raises ConfigError if beam_size or nbest is below 1 or ctc_weight is negative.
    """
    if beam_size < 1 or nbest < 1 or ctc_weight < 0.0:
        raise ConfigError(
            "beam_size and nbest must be at least 1 and ctc_weight not negative, "
            f"not {beam_size}, {nbest} and {ctc_weight}"
        )
    if len(am_log_probs) == 0 or len(ctc_log_probs) == 0:
        return [Hypothesis((sos, eos), 0.0, {})]
    device = am_log_probs.device
    positions, frames = (torch.tensor([len(x)], device=device) for x in (am_log_probs, ctc_log_probs))
    scorer = CTCPrefixScorer(ctc_log_probs.unsqueeze(0), frames, beam_size, eos, blank) if ctc_weight > 0.0 else None
    decoder = _PositionDecoder(am_log_probs)
    search = BeamSearch(decoder, scorer, SearchWeights(1.0, ctc_weight, penalty), beam_size, nbest, sos, eos)
    state = decoder.init_state(ctc_log_probs, positions)
    return search.run(state, torch.zeros_like(positions), positions, stop_early=False)[0]
