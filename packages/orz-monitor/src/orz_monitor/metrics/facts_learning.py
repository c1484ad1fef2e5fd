"""What is known about metrics of reward, policy and critic."""

from __future__ import annotations

from typing import Final

from orz_monitor.metrics.model import Facts

LEARNING: Final = (
    Facts(
        name="reward/mean",
        definition="The mean reward of the step's samples: what training is meant to raise.",
        estimator="A mean over samples. With 0-1 rewards and N samples its noise is at most 0.5 / sqrt(N).",
        ranges={
            "orz": "7B: 0.06 at step 0, 0.50 at 45, 0.60 at 100, 0.70 to 0.75 at the end; steps differ by 0.05",
            "any": "noise of 0.5 to 4 % from step to step",
        },
        pitfalls=(
            "verl's `critic/rewards/mean` is the reward less the KL penalty; `critic/score/mean` is this one.",
            "A rising training reward proves nothing alone: compare the evaluation.",
        ),
        asked=("reward", "score", "rm"),
    ),
    Facts(
        name="reward/std",
        definition="The standard deviation of the reward over the step's samples.",
        pitfalls=("TRL's `reward_std` and OpenRLHF's `group_reward_std` are means over groups: smaller.",),
        asked=("reward_std",),
    ),
    Facts(
        name="return/mean",
        definition="The mean reward less the KL penalty of each sample, undiscounted.",
        pitfalls=(
            "ORZ's `ret` (`bar/ret`, as logged) is no mean return: ORZ divides by the samples of a pack twice.",
            "SkyRL renamed `loss/avg_raw_rewards` to `loss/avg_final_rewards`; both contain the penalty.",
        ),
        asked=("ret", "return"),
    ),
    Facts(
        name="advantage/abs_mean",
        definition="The mean size of the advantages that weigh the tokens of the update.",
        estimator="After whitening about 0.8, where they were normally distributed.",
        pitfalls=("Advantages that are all 0 while rewards differ: samples were put into the wrong groups.",),
        asked=("advantage", "advantages"),
    ),
    Facts(
        name="policy/loss",
        definition="The policy-gradient loss. Only its gradient has a meaning; its level has hardly any.",
        estimator="A mean over action tokens of the clipped ratio times the advantage, sign reversed.",
        ranges={"grpo": "about 0 by construction: the advantages of a group sum to 0", "any": "noise above 70 %"},
        pitfalls=(
            "A loss of 0.0 in the first steps of GRPO is no fault.",
            "TRL's `loss` and NeMo-RL's `loss` are total losses, with KL and entropy terms.",
        ),
        asked=("pg", "loss", "act_loss", "pg_loss"),
    ),
    Facts(
        name="policy/kl_ref",
        definition="How far the policy has moved from the reference model, a mean over action tokens, in nats.",
        estimator="With d = log p(policy) - log p(reference) of sampled tokens: k1 is the mean of d (unbiased, may be "
        "negative), k2 of d^2 / 2 (biased, never negative), k3 of exp(-d) - 1 + d (unbiased, never negative, with a "
        "heavy tail: one token with d = -10 adds 22015). orz-train logs `kl.estimator`; ORZ, verl, TRL and NeMo-RL k3 "
        "by their recipes, where no setting says otherwise: values below 0 by noise are then taken as k1.",
        ranges={
            "rlhf-kl": "below 0.2",
            "grpo": "0.001 to 0.5",
            "kl-free": "grows without bound as long as the reward pays for it; 0.1 to 1 is common",
        },
        pitfalls=(
            "A mean over tokens is no sequence KL: times the response length it is (TRL's `objective/kl` is the sum).",
            "verl's `actor/kl_loss` is the form used in the loss; a small one does not show that it restrains much.",
            "ORZ resets the reference after each epoch: KL falls to 0 there by design.",
            "A k3 that spikes while k2 would not is a matter of a few tokens.",
        ),
        asked=("kl", "avg_kl", "kl_penalty", "kl_loss", "token kl"),
    ),
    Facts(
        name="policy/kl_ref_seq",
        definition="KL to the reference summed over each response, in nats.",
        estimator="About `policy/kl_ref` times the response length.",
        pitfalls=("Never compare it with a mean over tokens.",),
        asked=("objective/kl", "sequence kl"),
    ),
    Facts(
        name="policy/kl_old",
        definition="How far the updates of one step move the policy from the one that sampled, a mean over tokens.",
        ranges={
            "any": "0.0001 to 0.02; exactly 0 with one update a batch",
            "async": "higher by what the weights moved meanwhile",
        },
        pitfalls=(
            "ORZ and TRL with `num_iterations=1` update once a batch: 0 is the right value.",
            "verl and OpenRLHF log k1, which may be negative; its size is what counts.",
        ),
        asked=("ppo_kl", "approx_kl", "approxkl"),
    ),
    Facts(
        name="policy/entropy",
        definition="How undecided the policy is about the next token, a mean over action tokens, in nats.",
        estimator="orz-train, ORZ, verl and TRL's GRPO reckon it from all logits; NeMo-RL samples it; TRL's "
        "`objective/entropy` is a sum over the response.",
        ranges={"any": "0.1 to 1 at the start, often under 0.1 at the end of a good run; noise of 3 to 7 %"},
        pitfalls=(
            "No level is too low as such: what counts is whether the reward still rises, or has nowhere to rise to.",
            "verl's `actor/entropy_loss` and slime's `train/entropy_loss` are entropies, not losses.",
        ),
        asked=("ent", "entropy", "entropy_loss"),
    ),
    Facts(
        name="policy/clip_frac",
        definition="The share of action tokens whose probability ratio was clipped.",
        ranges={"any": "0.001 to 0.005 for language models, 0.1 to 0.2 in classic PPO; 0 with one update a batch"},
        pitfalls=("ORZ's `ppo_clip_count` is a share, not a count.", "A constant 0 with one update a batch is right."),
        asked=("clip_ratio", "clipfrac", "clip"),
    ),
    Facts(
        name="policy/ratio_mean",
        definition="The mean probability ratio of action tokens, new to old policy.",
        ranges={"any": "0.99 to 1.01; exactly 1 with one update a batch"},
        asked=("ratio", "importance ratio", "importance_weight"),
    ),
    Facts(
        name="policy/ratio_max",
        definition="The largest probability ratio of an action token.",
        ranges={"any": "below 10"},
        pitfalls=("NeMo-RL writes -1 for an infinite one.",),
    ),
    Facts(
        name="policy/grad_norm",
        definition="The norm of the policy's gradient before clipping.",
        ranges={"any": "0.05 to 2; noise of 5 to 35 %"},
        pitfalls=(
            "Its scale depends on the optimizer: with Muon some print a norm near 700.",
            "Single spikes are usual; several in a row come before divergence.",
        ),
        asked=("grad_norm", "gradient", "grad"),
    ),
    Facts(
        name="policy/lr",
        definition="The learning rate of the policy.",
        ranges={"any": "1e-7 to 1e-5 for full fine-tuning of 1.5B and more; LoRA ten times that"},
        pitfalls=("Printed with three decimals, 1e-6 reads as 0.000.",),
        asked=("lr", "act_lr", "learning_rate"),
    ),
    Facts(
        name="critic/loss",
        definition="The squared error of predicted values, clipped if so configured.",
        ranges={"any": "noise of 11 to 45 %; the scale is that of the squared reward"},
        pitfalls=("ORZ divides `critic_loss` by its accumulation steps before it logs it, and `policy_loss` not.",),
        asked=("critic_loss", "vf_loss", "value_loss", "cri"),
    ),
    Facts(
        name="critic/value_mean",
        definition="The mean value that the critic predicts.",
        ranges={"any": "near `reward/mean` after some 20 steps"},
        asked=("values", "vals", "vpred_mean"),
    ),
    Facts(
        name="critic/explained_var",
        definition="1 - Var(return - value) / Var(return): 1 for a perfect critic, 0 for one that predicts the mean.",
        ranges={"ppo": "negative at first, 0.2 to 0.7 in good runs"},
        pitfalls=("Where nearly all returns are equal it means nothing.",),
        asked=("explained_var", "explained variance", "vf_explained_var", "ev"),
    ),
)
