"""What to conclude: a verdict a window, one decision over all, and the exit code that carries it.

===========  ====================================================================
verdict      of a window
===========  ====================================================================
too_few      fewer rows than ``monitor.min_rows``: reported, not judged
degraded     labels are there, and the metric or the calibration is worse than on the
             test rows by more than stated, beyond the noise of both
drift        an input, the predictions or the labels moved; performance did not suffer,
             or is not known yet
ok           none of these
===========  ====================================================================

===========  ====  ===============================================================
decision     exit  when
===========  ====  ===============================================================
keep         0     nothing that would call for work
watch        3     fewer degraded windows than that; inputs or predictions moved and no
                   label says yet whether it matters; nothing to judge
retrain      4     k of the last m judged windows are degraded (``retrain_after``)
===========  ====  ===============================================================

1 and 2 are left to failures and to wrong use. Drift alone never asks for a new model:
seasons move inputs every year, and a model that still does its work is not replaced for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EXIT_CODES", "Decision", "Verdict", "WindowVerdict", "decide"]

Verdict = Literal["ok", "drift", "degraded", "too_few"]
Word = Literal["keep", "watch", "retrain"]

EXIT_CODES: dict[Word, int] = {"keep": 0, "watch": 3, "retrain": 4}
"""Process exit code of a decision; the table above."""


@dataclass(frozen=True)
class WindowVerdict:
    """One window as the decision sees it.

    Attributes
    ----------
    label
        The window in words.
    measured
        Whether performance is known: labels are mature and there are test rows to compare with.
    moved
        Columns with a drift alarm.
    beyond
        Those of them where most rows lie outside of the reference's range.
    worse
        What is degraded: the name of the metric, ``calibration``, or both.
    reasons
        Sentences that explain the verdict, the one that decided first.
    """

    label: str
    verdict: Verdict
    partial: bool = False
    measured: bool = False
    moved: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to do about the model, and why."""

    word: Word
    headline: str
    reasons: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.word]

    def to_json(self) -> dict[str, Any]:
        return {"word": self.word, "exit_code": self.exit_code, "headline": self.headline, "reasons": self.reasons}


def decide(windows: Sequence[WindowVerdict], retrain_after: tuple[int, int], metric: str) -> Decision:
    """The decision over all windows, in order of time.

    Windows that are partial count only where there is no complete one.

    Parameters
    ----------
    retrain_after
        k and m: retrain when k of the last m measured windows are degraded.
    metric
        Title of the chosen metric.
    """
    complete = [window for window in windows if not window.partial]
    judged = [window for window in (complete or windows) if window.verdict != "too_few"]
    if not judged:
        return _nothing(windows)
    k, m = retrain_after
    recent = [window for window in judged if window.measured][-m:]
    degraded = [window for window in recent if window.verdict == "degraded"]
    if len(degraded) >= k:
        return _retrain(recent, degraded, metric)
    if degraded:
        return _watch_degraded(recent, degraded, k)
    last = judged[-m:]
    if any(window.moved and not window.measured for window in last):
        return _watch_unlabelled(last)
    return _keep(last, recent)


def _nothing(windows: Sequence[WindowVerdict]) -> Decision:
    if not windows:
        return Decision("watch", "Nothing could be judged yet.", ["No prediction of this model is in the log."])
    return Decision("watch", "Nothing could be judged yet.", ["Every window has too few rows."])


def _retrain(recent: Sequence[WindowVerdict], degraded: Sequence[WindowVerdict], metric: str) -> Decision:
    reasons = [f"{window.label}: {reason}" for window in degraded for reason in window.reasons[:1]]
    if all(window.worse == ("calibration",) for window in degraded):
        reasons.append(
            f"{metric} is not measurably worse than on the test rows: the model still tells rows apart as well as it "
            "did. Its probabilities are off, and so is every decision that compares them with a threshold or a cost."
        )
    beyond = sorted({name for window in degraded for name in window.beyond})
    if beyond:
        reasons.append(
            f"Training never saw values of {_list(beyond)} like these: the model works outside of what it knows, "
            "as it will whenever a season comes that its rows do not cover."
        )
    reasons.append(
        "Train on rows that include these windows, and let the gate compare the new model with this one on the latest."
    )
    headline = f"Retrain: {len(degraded)} of the last {len(recent)} measured windows are degraded."
    return Decision("retrain", headline, reasons)


def _watch_degraded(recent: Sequence[WindowVerdict], degraded: Sequence[WindowVerdict], k: int) -> Decision:
    reasons = [f"{window.label}: {reason}" for window in degraded for reason in window.reasons[:1]]
    verb = "is" if len(degraded) == 1 else "are"
    headline = (
        f"Watch: {len(degraded)} of the last {len(recent)} measured windows {verb} degraded; {k} mean retraining."
    )
    return Decision("watch", headline, reasons)


def _watch_unlabelled(last: Sequence[WindowVerdict]) -> Decision:
    blind = [window for window in last if window.moved and not window.measured]
    reasons = [f"{window.label}: {_list(window.moved)} moved." for window in blind]
    return Decision(
        "watch",
        "Watch: the traffic is not what the model was trained on, and no labels tell yet whether it matters.",
        [*reasons, "Bring labels (--labels) to measure performance."],
    )


def _keep(last: Sequence[WindowVerdict], recent: Sequence[WindowVerdict]) -> Decision:
    reasons = []
    if recent:
        reasons.append(f"Performance holds in the last {len(recent)} measured window{'' if len(recent) == 1 else 's'}.")
    else:
        reasons.append("No labels yet: performance is not known, and inputs and predictions are as in training.")
    moved = sorted({name for window in last for name in window.moved})
    if moved:
        reasons.append(f"What moved ({_list(moved)}) did not cost performance.")
    return Decision("keep", "Keep: nothing calls for a new model.", reasons)


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
