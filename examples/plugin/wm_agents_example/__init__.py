"""Registers the parts of this package; each is imported on first use."""

import gymnasium as gym

from wm_agents.registry import ENCODERS, HEADS, LOSSES, PLANNERS

ENCODERS.register("tiny", "wm_agents_example.parts:TinyEncoder")
HEADS.register("probe", "wm_agents_example.parts:Probe")
LOSSES.register("straightness", "wm_agents_example.parts:Straightness")
PLANNERS.register("best-of-n", "wm_agents_example.parts:BestOfN")
gym.register(
    "example/Boat-v0",
    "wm_agents_example.boat:Boat",
    max_episode_steps=200,
    additional_wrappers=(
        gym.envs.registration.WrapperSpec("ExposeReward", "wm_agents.envs.goal_env:ExposeReward", {}),
    ),
)
