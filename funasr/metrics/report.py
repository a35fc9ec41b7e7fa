"""What a scored set looks like: summary lines, speaker table, aligned utterances as text and as one HTML page."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

from funasr.metrics.error_rate import ErrorRate, Pair, Score, ScoredUtterance, bootstrap_interval, confusions

_NAMED_AT_MOST = 10
_TABLE_HEAD = ("SPKR", "# Snt", "# Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")


def display_width(text: str) -> int:
    """Columns a text takes in a terminal: 2 for a wide (CJK) character, 0 for a combining one, else 1."""
    width = 0
    for char in text:
        if not unicodedata.combining(char):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def summary_lines(scored: Score) -> list[str]:
    """`%WER ...`, `%SER ...` and `Scored ...`, the end of a `text.cer` file."""
    total = scored.total
    return [
        f"%WER {total.rate:.2f} [ {total.errors} / {total.words}, {total.ins} ins, {total.dele} del, {total.sub} sub ]",
        f"%SER {total.sentence_rate:.2f} [ {total.wrong_sentences} / {total.sentences} ]",
        f"Scored {total.sentences} sentences, {len(scored.missing)} not present in hyp.",
    ]


def warning_lines(scored: Score) -> list[str]:
    """Names of missing hypotheses (counted as deletions) and of hypotheses without a reference (not scored)."""
    lines = []
    if scored.missing:
        lines.append(f"No hypothesis, counted as deletions ({len(scored.missing)}): {_some(scored.missing)}")
    if scored.extra:
        lines.append(f"No reference, not scored ({len(scored.extra)}): {_some(scored.extra)}")
    return lines


def result_text(scored: Score, top: int = 10, resamples: int = 1000, seed: int = 0) -> str:
    """The short report: table by speaker, summary, confidence interval, confusion pairs, ids that do not match."""
    low, high = bootstrap_interval(scored.utterances, resamples, seed=seed)
    lines = [f"{scored.name} ({scored.unit})", "", *speaker_table(scored), "", *summary_lines(scored)]
    lines += [f"95% confidence interval of the error rate: {low:.2f} .. {high:.2f} (bootstrap over utterances)"]
    lines += warning_lines(scored)
    titles = {"sub": "Substitutions (ref -> hyp)", "del": "Deletions", "ins": "Insertions"}
    for kind, pairs in confusions(scored.utterances, top).items():
        if pairs:
            lines += ["", f"{titles[kind]}:"]
            lines += [f"{count:6d}  {f'{ref} -> {hyp}' if kind == 'sub' else ref or hyp}" for ref, hyp, count in pairs]
    return "\n".join(lines) + "\n"


def speaker_table(scored: Score) -> list[str]:
    """The sclite-like table: counts, then per cent of the reference words (S.Err: of the sentences)."""
    rows: list[tuple[str, ...]] = [_TABLE_HEAD]
    rows += [_table_row(speaker, counts) for speaker, counts in scored.by_speaker().items()]
    rows.append(_table_row("Sum/Avg", scored.total))
    widths = [max(display_width(row[column]) for row in rows) for column in range(len(_TABLE_HEAD))]
    lines = []
    for row in rows:
        name, *numbers = (_pad(cell, width, left=i == 0) for i, (cell, width) in enumerate(zip(row, widths)))
        lines.append(f"| {name} | {' '.join(numbers[:2])} | {' '.join(numbers[2:])} |")
    rule = "-" * display_width(lines[0])
    return [rule, lines[0], rule, *lines[1:-1], *([rule] if len(lines) > 2 else []), lines[-1], rule]


def report_text(scored: Score) -> str:
    """The long report in the `text.cer` format: each utterance with ref, hyp and markers in columns, then a summary."""
    blocks = ["\n".join(utterance_lines(utterance, scored.unit)) for utterance in scored.utterances]
    return "\n".join([*blocks, "", *summary_lines(scored)]) + "\n"


def utterance_lines(utterance: ScoredUtterance, unit: str) -> list[str]:
    """`ID(nwords=..,cor=..,ins=..,del=..,sub=..) corr:..%,cer:..%` and the aligned `ref:`, `hyp:`, `err:` lines."""
    counts = utterance.counts
    label = "wer" if unit == "word" else "cer"
    head = (
        f"{utterance.key}(nwords={counts.words},cor={counts.corr},ins={counts.ins},del={counts.dele},sub={counts.sub})"
        f" corr:{counts.percent(counts.corr):.2f}%,{label}:{counts.rate:.2f}%"
    )
    if utterance.missing:
        head += " no hypothesis"
    columns = [_column(pair) for pair in utterance.pairs]
    refs, hyps, marks = (" ".join(column[row] for column in columns).rstrip() for row in range(3))
    lines = [head, f"ref:\t{refs}", f"hyp:\t{hyps}"]
    return [*lines, f"err:\t{marks}"] if counts.errors else lines


def report_html(scored: Score, resamples: int = 1000, seed: int = 0) -> str:
    """One page without outside parts: summary, speakers, confusions, and every utterance with coloured errors."""
    low, high = bootstrap_interval(scored.utterances, resamples, seed=seed)
    title = html.escape(f"{scored.name} ({scored.unit})")
    summary = "<br>".join(html.escape(line) for line in (*summary_lines(scored), *warning_lines(scored)))
    rows = [_table_row(speaker, counts) for speaker, counts in scored.by_speaker().items()]
    rows.append(_table_row("Sum/Avg", scored.total))
    confused = [
        (kind, ref, hyp, str(count))
        for kind, pairs in confusions(scored.utterances, 20).items()
        for ref, hyp, count in pairs
    ]
    utterances = "\n".join(_utterance_html(utterance) for utterance in scored.utterances)
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body>\n<h1>{title}</h1>\n<p>{summary}<br>95% confidence interval: {low:.2f} .. {high:.2f}</p>\n"
        f"<h2>Speakers</h2>\n{_html_table(_TABLE_HEAD, rows)}\n"
        f"<h2>Most frequent errors</h2>\n{_html_table(('kind', 'ref', 'hyp', 'count'), confused)}\n"
        f"<h2>Utterances</h2>\n<p><span class=S>ref &rarr; hyp</span> substituted, <span class=D>deleted</span>, "
        f"<span class=I>inserted</span></p>\n{utterances}\n</body></html>\n"
    )


_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:2px 8px}"
    "td{text-align:right}td:first-child{text-align:left}.u{margin:.6em 0}.k{color:#666;font-size:80%}"
    ".S{background:#ffe08a}.D{background:#ffb3b3;text-decoration:line-through}.I{background:#b3d9ff}"
)


def _utterance_html(utterance: ScoredUtterance) -> str:
    cells = []
    for pair in utterance.pairs:
        ref, hyp = html.escape(pair.ref or ""), html.escape(pair.hyp or "")
        text = f"{ref} &rarr; {hyp}" if pair.op == "S" else ref or hyp
        cells.append(text if pair.op == "C" else f"<span class={pair.op}>{text}</span>")
    note = " no hypothesis" if utterance.missing else ""
    head = f"{html.escape(utterance.key)} {utterance.counts.rate:.2f}%{note}"
    return f"<div class=u><div class=k>{head}</div>{' '.join(cells)}</div>"


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row("th", head) + "".join(row("td", cells) for cells in rows) + "</table>"


def _table_row(name: str, counts: ErrorRate) -> tuple[str, ...]:
    percents = (counts.corr, counts.sub, counts.dele, counts.ins, counts.errors)
    numbers = [f"{counts.percent(count):.1f}" for count in percents]
    return (name, str(counts.sentences), str(counts.words), *numbers, f"{counts.sentence_rate:.1f}")


def _column(pair: Pair) -> tuple[str, str, str]:
    """The three cells of one column, of one width; an absent token is shown as stars."""
    present = max(display_width(pair.ref or ""), display_width(pair.hyp or ""))
    ref = "*" * present if pair.ref is None else pair.ref
    hyp = "*" * present if pair.hyp is None else pair.hyp
    mark = " " if pair.op == "C" else pair.op
    return _pad(ref, present), _pad(hyp, present), _pad(mark, present)


def _pad(text: str, width: int, left: bool = True) -> str:
    fill = " " * (width - display_width(text))
    return text + fill if left else fill + text


def _some(keys: Sequence[str]) -> str:
    more = len(keys) - _NAMED_AT_MOST
    return ", ".join(keys[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
