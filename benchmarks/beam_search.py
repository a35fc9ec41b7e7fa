"""Joint CTC-attention beam search of a small random hybrid model: one utterance at a time against batches of eight.

    python benchmarks/beam_search.py

Prints one line of JSON: utterances per second of the search alone (the encoder output is random), and their ratio.
Results of both are compared, so a fast wrong search does not count.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from funasr.decode.beam_search import BeamSearchOptions, joint_beam_search
from funasr.decode.hypothesis import Hypothesis
from funasr.layers.ctc import CTC
from funasr.models.transformer.decoder import TransformerDecoder

SOS, EOS = 1, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=120, help="encoder frames of the longest utterance")
    parser.add_argument("--tokens", type=int, default=30, help="steps of the search")
    parser.add_argument("--vocab", type=int, default=4234)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    dim = 128
    decoder = TransformerDecoder(args.vocab, dim, linear_units=512, num_blocks=3).eval().to(args.device)
    ctc = CTC(args.vocab, dim).eval().to(args.device)
    with torch.no_grad():
        # Scores far apart, so that rounding decides nothing and both ways must find the same.
        decoder.output_layer.weight.mul_(8.0)
        ctc.ctc_lo.weight.mul_(8.0)
    memory = torch.randn(args.utterances, args.frames, dim, device=args.device)
    lengths = torch.linspace(args.frames // 2, args.frames, args.utterances, device=args.device).long()
    options = BeamSearchOptions(beam_size=args.beam, ctc_weight=0.3, maxlenratio=-args.tokens)

    @torch.inference_mode()
    def search(batch: int) -> tuple[float, list[Hypothesis]]:
        """Utterances per second, and the best hypothesis of each."""
        found = []
        start = time.perf_counter()
        for rows in torch.arange(args.utterances, device=args.device).split(batch):
            log_probs = ctc.log_softmax(memory[rows])
            nbest = joint_beam_search(memory[rows], lengths[rows], decoder, log_probs, options, SOS, EOS)
            found += [hypotheses[0] for hypotheses in nbest]
        return args.utterances / (time.perf_counter() - start), found

    search(args.batch)
    one_rate, one = search(1)
    batch_rate, batched = search(args.batch)
    result = {
        "benchmark": "beam_search",
        "device": args.device,
        "beam": args.beam,
        "frames": args.frames,
        "steps": args.tokens,
        "vocab": args.vocab,
        "batch": args.batch,
        "utterances_per_second_batch_1": round(one_rate, 2),
        f"utterances_per_second_batch_{args.batch}": round(batch_rate, 2),
        "ratio": round(batch_rate / one_rate, 2),
        "same_best": sum(a.ids == b.ids for a, b in zip(one, batched)) / args.utterances,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
