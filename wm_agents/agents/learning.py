"""What SB3's off-policy algorithms have besides ``predict``: ``learn``, a replay buffer, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.type_aliases import MaybeCallback

from wm_agents.agents.online import OnlineConfig, dump_logs, learn
from wm_agents.agents.replay_files import read_replay, write_replay

if TYPE_CHECKING:
    from wm_agents.datasets import ReplayBuffer, TrajectoryDataset
    from wm_agents.training.continued import ContinuedTraining


class OnlineLearning:
    """The part of an agent that learns by acting.

    Attributes:
        online: Options of the last call of :meth:`learn`.
        replay_buffer: What it has seen; None before the first call.
        trainer: Networks and optimizers in training; None where they begin anew.
    """

    name: str
    online: OnlineConfig = OnlineConfig()
    replay_buffer: ReplayBuffer | None = None
    trainer: ContinuedTraining | None = None

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        *,
        online: OnlineConfig | None = None,
        data: TrajectoryDataset | None = None,
    ) -> Any:
        """Act in the environment and learn from it, in turns; no reward is used.

        The agent acts with its own controller and exploration noise, towards the goals that the environment gives and
        towards frames of its own data; some episodes take random actions, and some may go where an ensemble of
        predictors disagrees. All episodes go into ``replay_buffer``.
        After every ``train_freq`` steps, and at the end, the world model is trained on it, then the heads with which
        the agent acts, with hindsight goals: later frames of the same episode.

        What is refitted and what is frozen: an untrained agent takes the statistics of its actions from the data of its
        first training; after that they never change. The encoder changes with every training, which makes all
        latents and heads from before worthless. So frames are encoded afresh, the heads go on from their weights on the
        new latents, and heads with which the agent does not act are dropped with a warning. Other agents on the
        same world model are not affected, because copies are trained. After Ctrl-C, the agent is as it was before the
        training that was interrupted, and all steps so far are in ``replay_buffer``.

        ``save`` keeps the networks and ``num_timesteps``, :meth:`save_replay_buffer` the data. After ``load``,
        ``load_replay_buffer`` and ``reset_num_timesteps=False`` continue; the optimizers then begin anew.

        Args:
            total_timesteps: Environment steps, in all environments together; 1e5 works too.
            callback: SB3's callbacks; ``num_timesteps`` counts environment steps.
            log_interval: Episodes between two rows of the log; None writes none.
            tb_log_name: Name of the run in TensorBoard; the agent's name by default.
            reset_num_timesteps: Count from 0 again, and reset the environment.
            progress_bar: SB3's progress bar, which needs tqdm.
            online: Options of the exploration and of the training, kept for the next call; by default those of the
                last call.
            data: Recorded data of the environment to learn from as well.

        Returns:
            The agent itself.

        Raises:
            ValueError: No environment, bad arguments, data of another environment, or episodes that are too short for
                the world model's windows.
            DivergedError: The loss is not finite; the agent is as it was before that training.
        """
        agent: Any = self
        name = self.name if tb_log_name is None else tb_log_name
        learn(agent, total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar, online, data)
        return agent

    def dump_logs(self) -> None:
        """Write the log now, as SB3's ``LogEveryNTimesteps`` asks for."""
        agent: Any = self
        dump_logs(agent)

    def save_replay_buffer(self, path: str | Path) -> None:
        """Write the data that ``learn`` has collected to a safetensors file; ".pkl" is replaced by ".safetensors".

        Raises:
            ValueError: There are none yet.
        """
        write_replay(self.replay_buffer, path)

    def load_replay_buffer(self, path: str | Path, truncate_last_traj: bool = True) -> None:
        """Read data that :meth:`save_replay_buffer` wrote, for the next call of ``learn``.

        Args:
            path: The file, with or without its suffix.
            truncate_last_traj: SB3's, for hindsight replay; no effect, because all episodes in a file have ended.

        Raises:
            CheckpointError: The file is missing, damaged, or of another environment.
        """
        agent: Any = self
        self.replay_buffer = read_replay(path, agent.world_model, self.online.buffer_size)
