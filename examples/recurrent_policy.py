"""Reinforcement learning with an LSTM, where one call runs steps among which episodes start.

The task is CartPole-v1 of gymnasium (MIT licence): keep a pole upright on a cart by pushing the
cart left or right. There are no data but what the simulation gives. Here the agent sees positions
only, not velocities: one observation does not tell which way the pole falls, so a policy has to
remember. The return of an episode is the number of steps that the pole stays up, at most 500.

The algorithm is PPO with an LSTM, RecurrentPPO of Stable-Baselines3 Contrib (MIT licence). One
network, the policy, gives the probability of each action; another gives the value of a situation,
the reward still to come. PPO makes actions likelier that earned more than the value promised. It
collects a rollout, some steps in several environments, and then learns from it in minibatches,
several times over. Where an episode starts, the LSTM has to forget. The library cuts the rollout
there and pads the pieces; and if only one piece of a minibatch starts with an episode, as nearly
always, it calls the LSTM step by step, in a Python loop. Three ways of learning are compared:

* loop: the library as it is.
* one call: the same minibatches, but the LSTM is fastrnn's, is told where episodes start, and runs
  all steps in one call. `OneCallPolicy` is all that this needs.
* whole: the same policy on minibatches of whole rollouts, uncut, with episodes inside. It is what
  starts inside make possible: nothing is padded.

Two baselines are PPO without an LSTM. One sees the positions of this step, and cannot do the task.
One sees those of the last four steps, from which velocities follow: where it is known how far back
to look, as here, that is simpler than an LSTM and faster.

All take turns, an update each. Run it with ``python examples/recurrent_policy.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy

from _program import Figures, Program, packages

with packages():
    import gymnasium
    import numpy as np
    import torch
    from gymnasium.wrappers import TransformObservation, TransformReward
    from sb3_contrib import RecurrentPPO
    from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
    from sb3_contrib.common.recurrent.type_aliases import RecurrentRolloutBufferSamples, RNNStates
    from sb3_contrib.ppo_recurrent import MlpLstmPolicy
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import CallbackList
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from stable_baselines3.common.utils import safe_mean, set_random_seed
    from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
    from torch import Tensor

    import fastrnn.torch
    from fastrnn.torch.rl import unroll

ENVIRONMENTS, STEPS = 8, 128  # of a rollout
EPOCHS, BATCH = 5, 512
HIDDEN = 64
POSITIONS = [0, 2]  # of the cart and of the pole, among the four numbers of CartPole
SCALES = [0.8, 0.07]  # a third of the positions at which an episode ends
LOSSES = ["policy_gradient_loss", "value_loss", "entropy_loss"]  # as the library logs them


class OneCallPolicy(MlpLstmPolicy):
    """The library's policy with fastrnn's LSTMs, which are told where episodes start."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        fastrnn.torch.accelerate(self)  # keeps the parameters, which the optimiser has already

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """In the place of the library's, which has the loop; rows lie one after the other."""
        B = lstm_states[0].shape[1]
        x = features.reshape(B, -1, lstm.input_size).transpose(0, 1)
        y, lstm_states = unroll(lstm, x, lstm_states, episode_starts.reshape(B, -1).T)
        return y.transpose(0, 1).flatten(0, 1), lstm_states


class WholeRollouts(RecurrentRolloutBuffer):
    """The library's buffer; its minibatches are all steps of some environments, uncut."""

    def get(self, batch_size: int) -> Iterator[RecurrentRolloutBufferSamples]:
        """Go once through all environments, in a random order."""
        states = (self.hidden_states_pi, self.cell_states_pi)
        states += (self.hidden_states_vf, self.cell_states_vf)  # each (T, L, environments, H)
        steps = (self.observations, self.actions, self.values, self.log_probs, self.advantages)
        steps += (self.returns, self.episode_starts, np.ones_like(self.returns))
        for chosen in torch.randperm(self.n_envs).split(batch_size // STEPS):
            *before, starts, mask = (
                self.to_torch(each[:, chosen].swapaxes(0, 1)).flatten(0, 1) for each in steps
            )
            h_pi, c_pi, h_vf, c_vf = (self.to_torch(each[0][:, chosen]) for each in states)
            initial = RNNStates((h_pi, c_pi), (h_vf, c_vf))
            yield RecurrentRolloutBufferSamples(*before, initial, starts, mask)


def environments(seed: int, frames: int = 1) -> VecEnv:
    """CartPole without velocities, as the agent sees it: the last `frames` observations."""

    def masked(env: gymnasium.Env) -> gymnasium.Env:
        # Numbers of order 1 are easier to learn from and to learn.
        scales = np.array(SCALES, np.float32)
        space = gymnasium.spaces.Box(-np.inf, np.inf, scales.shape)
        env = TransformObservation(env, lambda observed: observed[POSITIONS] / scales, space)
        return TransformReward(env, lambda reward: 0.05 * reward)

    envs = make_vec_env("CartPole-v1", ENVIRONMENTS, seed=seed, wrapper_class=masked)
    return VecFrameStack(envs, frames) if frames > 1 else envs


def options_of(seed: int) -> dict:
    """What all have alike."""
    return {
        "n_steps": STEPS,
        "batch_size": BATCH,
        "n_epochs": EPOCHS,
        "learning_rate": 3e-3,
        "gamma": 0.98,  # a reward counts less by this factor for each step that it is away
        "gae_lambda": 0.9,  # likewise for the surprises that an action is judged by
        "stats_window_size": 32,  # episodes whose mean return is told
        "seed": seed,
        "device": "cpu",
    }


def recurrent(policy: type[MlpLstmPolicy], seed: int, whole: bool = False) -> RecurrentPPO:
    """PPO with an LSTM for the policy and one for the values."""
    sizes = {"lstm_hidden_size": HIDDEN}
    model = RecurrentPPO(policy, environments(seed), policy_kwargs=sizes, **options_of(seed))
    if whole:
        model.rollout_buffer = WholeRollouts(
            STEPS,
            model.observation_space,
            model.action_space,
            model.rollout_buffer.hidden_state_shape,
            model.device,
            model.gae_lambda,
            model.gamma,
            ENVIRONMENTS,
        )
    return model


def feedforward(seed: int, frames: int) -> PPO:
    """PPO without memory but the last `frames` observations."""
    return PPO("MlpPolicy", environments(seed, frames), **options_of(seed))


class Learner:
    """An algorithm that goes an update at a time, with a clock.

    Attributes
    ----------
    returns : list of float
        Mean return of the latest episodes, after each update.
    collecting, learning : float
        Seconds so far.
    """

    def __init__(self, model: OnPolicyAlgorithm) -> None:
        self.model = model
        self.returns: list[float] = []
        self.collecting = self.learning = 0.0
        model.learn(total_timesteps=0)  # resets the environments
        self._callback = CallbackList([])
        self._callback.init_callback(model)

    def collect(self) -> None:
        """Fill the buffer with a rollout."""
        model = self.model
        model.collect_rollouts(model.env, self._callback, model.rollout_buffer, STEPS)

    def update(self, seed: int) -> None:
        """Collect a rollout and learn from it, on random numbers of this seed."""
        set_random_seed(seed)
        start = time.perf_counter()
        self.collect()
        collected = time.perf_counter()
        self.model.train()
        self.learning += time.perf_counter() - collected
        self.collecting += collected - start
        self.returns.append(safe_mean([each["r"] for each in self.model.ep_info_buffer]))


def difference_of_losses(seed: int, whole: bool) -> float:
    """How far the losses of the loop and of one call come apart in the epochs of an update.

    Both start with the same parameters and learn from the same rollout in the same minibatches.
    """
    loop, one_call = (recurrent(policy, seed, whole) for policy in (MlpLstmPolicy, OneCallPolicy))
    Learner(loop).collect()
    one_call.learn(total_timesteps=0)
    one_call.rollout_buffer = deepcopy(loop.rollout_buffer)
    losses = []
    for model in (loop, one_call):
        set_random_seed(seed)
        model.n_epochs = 1  # for each call of train, which logs the mean over its epochs
        for _ in range(EPOCHS):
            model.train()
            losses.append([model.logger.name_to_value[f"train/{loss}"] for loss in LOSSES])
    return float(np.abs(np.subtract(losses[:EPOCHS], losses[EPOCHS:])).max())


def draw(axes, returns: dict[str, np.ndarray]) -> None:
    """Mean return against frames: a line for the mean of the seeds, a band for their range."""
    for who, curves in returns.items():
        frames = ENVIRONMENTS * STEPS * np.arange(1, curves.shape[1] + 1)
        (line,) = axes.plot(frames, curves.mean(axis=0), label=who)
        band = curves.min(axis=0), curves.max(axis=0)
        axes.fill_between(frames, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="frames", ylabel="steps that the pole stays up", ylim=0)
    axes.set_title("CartPole without velocities: mean and range of the seeds")
    axes.legend(loc="upper left")


def main(argv: list[str] | None = None) -> Figures:
    """Compare the losses, then let all learn in turns."""
    program = Program(__doc__, on_torch=False)
    options = program.start(argv)
    seeds = range(options.seed, options.seed + program.pick(full=3, quick=1))
    updates = program.pick(full=50, quick=5)

    differences = {
        "one call": difference_of_losses(options.seed, whole=False),
        "whole": difference_of_losses(options.seed, whole=True),
    }
    makers = {
        "loop": lambda seed: recurrent(MlpLstmPolicy, seed),
        "one call": lambda seed: recurrent(OneCallPolicy, seed),
        "whole": lambda seed: recurrent(OneCallPolicy, seed, whole=True),
        "one step": lambda seed: feedforward(seed, frames=1),
        "four steps": lambda seed: feedforward(seed, frames=4),
    }
    learners = {who: [Learner(make(seed)) for seed in seeds] for who, make in makers.items()}
    for update in program.progress(range(updates), "updates"):
        for i, seed in enumerate(seeds):
            for each in learners.values():
                (state,) = np.random.SeedSequence([seed, update]).generate_state(1)
                each[i].update(int(state))
        program.note(f"return {learners['one call'][0].returns[-1]:.0f}")

    returns = {who: np.array([e.returns for e in each]) for who, each in learners.items()}
    with program.picture("recurrent_policy.png", width=8, height=4.5) as figure:
        draw(figure.subplots(), returns)

    frames = ENVIRONMENTS * STEPS * updates * len(seeds)
    learning = {who: sum(e.learning for e in each) for who, each in learners.items()}
    collecting = {who: sum(e.collecting for e in each) for who, each in learners.items()}
    figures = {"largest difference of losses": differences}
    for name, of in {"mean": np.mean, "least": np.min, "greatest": np.max}.items():
        figures[f"return, {name} of the seeds"] = {
            who: float(of(curves[:, -1])) for who, curves in returns.items()
        }
    figures["frames a second"] = {
        who: frames / (learning[who] + collecting[who]) for who in learners
    }
    figures["frames a second, learning alone"] = {who: frames / learning[who] for who in learners}
    return program.report(figures)


if __name__ == "__main__":
    main()
