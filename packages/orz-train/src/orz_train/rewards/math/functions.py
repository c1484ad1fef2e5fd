r"""The reward functions for answers of mathematics: `math` and `boxed`.

What they say, beside what ORZ's checker was measured to say of the same pairs:

| expected | answer | here | ORZ | why |
|---|---|---|---|---|
| `\frac12` | `\frac{3}{6}` | 1 | 1 | |
| `2\sqrt2` | `\sqrt8` | 1 | 1 | |
| `1024` | `2^{10}` | 1 | 1 | |
| `A` | `\text{A}` | 1 | 1 | |
| `2x+1` | `y=2x+1` | 1 | 1 | |
| `12` | `1,2` | **0** | 1 | a comma parts thousands, or the members of a list |
| `x^2+2x+1` | `(x+1)^2` | **1** | 0 | expressions are compared, not their texts |
| `10` | `10%` | **1** | 0 | as `10\%`, which ORZ accepts |
| `10` | `10\%` | 1 | 1 | |
| `3.14159` | `\pi` | 0 | 0 | a rounded decimal is not the exact value |
| `\{1,2\}` | `\{2,1\}` | **1** | 0 | sets have no order |
| `3\frac12` | `\frac72` | **1** | 0 | a mixed number |
| `\frac13` | `0.3333` | 0 | 0 | a rounded decimal is not the exact value |

Lenient, as math-verify is: `(0,1)` and `\{0,1\}` pass for each other (an open interval, a pair and a list are
written alike), units aren't compared (`6\text{ cm}` passes for `6`), a base in the subscript isn't read
(`12_3` passes for `12`).
"""

from __future__ import annotations

from orz_train.rewards.math.equal import equal
from orz_train.rewards.math.extract import boxed_in_answer, last_boxed
from orz_train.types import Prompt, Rollout, Score

_MAX_FACT_CHARS = 500


def math(prompt: Prompt, rollout: Rollout) -> Score:
    r"""Return 1 if the last `\boxed{}` in the response's last `<answer>` block equals the prompt's answer, else 0.

    Raises:
        ValueError: the prompt has no answer to compare with.
    """
    return _score(prompt, boxed_in_answer(rollout.text))


def boxed(prompt: Prompt, rollout: Rollout) -> Score:
    r"""Return 1 if the last `\boxed{}` of the response, wherever it stands, equals the prompt's answer, else 0.

    Raises:
        ValueError: the prompt has no answer to compare with.
    """
    return _score(prompt, last_boxed(rollout.text))


def _score(prompt: Prompt, extracted: str | None) -> Score:
    if not prompt.answer.strip():
        raise ValueError(f"prompt {prompt.prompt_id} has no answer to compare with")
    if extracted is None:
        return Score(reward=0.0)
    reward = float(equal(prompt.answer, extracted))
    return Score(reward=reward, facts={"extracted": extracted[:_MAX_FACT_CHARS]})
