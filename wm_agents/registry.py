"""Names of parts: everything that users choose by name is in one of these tables. Other packages can add parts.

A table maps a name to an object, or to ``"module:attribute"``, which is imported on first use. Your own package
adds a part in one of three ways::

    HEADS.register("mine", Mine)                # an object
    HEADS.register("mine", "my_package:Mine")   # imported on first use
    @HEADS.register("mine")                     # a decorator
    class Mine(Head): ...

This code must run before the name is used. For an installed package, this happens by itself if it has an entry point in
the group ``wm_agents.plugins``, whose value is a module to import or a function to call.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

GROUP = "wm_agents.plugins"
_loaded: set[str] = set()


class PluginWarning(UserWarning):
    """An installed plug-in could not be loaded."""


def load_plugins() -> None:
    """Load every entry point of the group ``wm_agents.plugins`` once; one that fails causes a warning."""
    for entry in metadata.entry_points(group=GROUP):
        if entry.value in _loaded:
            continue
        _loaded.add(entry.value)
        try:
            found = entry.load()
            if callable(found):
                found()
        except Exception as error:  # whatever is wrong with one plug-in must not stop the others
            package = entry.dist.name if entry.dist else entry.value
            warnings.warn(f"the plug-in {entry.name!r} of {package} failed: {error}", PluginWarning, stacklevel=2)


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: what was asked for, the nearest match, and those that exist.

    Of more than 40 names it lists the 10 that are most alike.

    Args:
        kind: Kind of part, in words ("planner").
        name: The unknown name.
        known: Every name that exists.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(names) if names else "none"
    if len(names) > 40:
        alike = difflib.get_close_matches(name, names, n=10, cutoff=0.0)
        listing = f"{', '.join(alike)}, and {len(names) - len(alike)} more"
    return f"Unknown {kind} {name!r}.{hint} Known: {listing}."


def origin(part: Any) -> str:
    """Return the package that a class or function comes from, with its version where it is installed: "mine 1.0"."""
    package = getattr(part, "__module__", "").partition(".")[0]
    for distribution in metadata.packages_distributions().get(package, []):
        return f"{distribution} {metadata.version(distribution)}"
    return package


class Registry:
    """Names of one kind of part.

    Args:
        kind: Kind of part, in words, for error messages.
        entries: Name -> object, or ``"package.module:attribute"``.
    """

    def __init__(self, kind: str, entries: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self._entries = dict(entries or {})

    def register(self, name: str, target: Any = None) -> Callable[[Any], Any] | None:
        """Add ``name``, bound to an object or to ``"package.module:attribute"``; without a target, a decorator.

        Raises:
            ValueError: The name is not a text, or is taken by another target.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of a {self.kind} must be text, not {name!r}.")
        if target is None:

            def decorate(decorated: Any) -> Any:
                self.register(name, decorated)
                return decorated

            return decorate
        if name in self._entries and not _same(self._entries[name], target):
            raise ValueError(
                f"{self.kind} {name!r} is already registered as {self._entries[name]}: choose another name."
            )
        self._entries[name] = target
        return None

    def get(self, name: str) -> Any:
        """Return what ``name`` is bound to; installed plug-ins are loaded before a name counts as unknown.

        Raises:
            ValueError: The name is unknown; the message lists the known ones and the nearest match.
        """
        if name not in self:
            raise ValueError(did_you_mean(self.kind, str(name), self._entries))
        target = self._entries[name]
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def name_of(self, part: Any) -> str:
        """Return the name that an object is registered by.

        Raises:
            ValueError: It is not registered.
        """
        for name, target in self._entries.items():
            if _same(target, part):
                return name
        raise ValueError(f"{part} is not registered as a {self.kind}: register it under a name first.")

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name not in self._entries:
            load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(sorted(self._entries))


def _same(one: Any, other: Any) -> bool:
    return one == other or _path(one) == _path(other)


def _path(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', id(target))}"


WORLD_MODELS = Registry(
    "world model",
    {
        "cloned": "wm_agents.models.cloned:ClonedEncoder",
        "dino-wm": "wm_agents.models.dino_wm:DinoWM",
        "lewm": "wm_agents.models.lewm:LeWM",
        "patch": "wm_agents.models.patch:PatchWorldModel",
        "public-lewm": "wm_agents.models.public_lewm:PublicLeWM",
        "rssm": "wm_agents.models.rssm:RSSM",
        "video-lewm": "wm_agents.models.video_lewm:VideoLeWM",
    },
)
ENCODERS = Registry(
    "encoder",
    {
        "conv": "wm_agents.models.encoders:ConvEncoder",
        "conv-grid": "wm_agents.models.patch:ConvGrid",
        "vit": "wm_agents.models.encoders:ViTEncoder",
    },
)
PREDICTORS = Registry(
    "predictor",
    {
        "mlp": "wm_agents.models.predictors:MLPPredictor",
        "transformer": "wm_agents.models.predictors:TransformerPredictor",
    },
)
HEADS = Registry(
    "head",
    {
        "assessment": "wm_agents.models.heads.assessment:AssessmentHead",
        "denoiser": "wm_agents.models.heads.denoiser:Denoiser",
        "disagreement": "wm_agents.models.heads.disagreement:Disagreement",
        "gc-idm": "wm_agents.models.heads.gc_idm:InverseDynamics",
        "graph": "wm_agents.models.heads.graph:LatentGraph",
        "hiql": "wm_agents.models.heads.hiql:HIQLPolicy",
        "latent-actions": "wm_agents.models.heads.latent_actions:LatentActions",
        "macro-actions": "wm_agents.models.heads.macro_actions:MacroActions",
        "steps-to-goal": "wm_agents.models.heads.steps_to_goal:StepsToGoal",
        "temporal-distance": "wm_agents.models.heads.temporal_distance:TemporalDistance",
        "viewer": "wm_agents.models.heads.viewer:Viewer",
        "waypoints": "wm_agents.models.heads.waypoints:Waypoints",
    },
)
LOSSES = Registry(
    "loss term",
    {
        "inverse_dynamics": "wm_agents.losses.inverse_dynamics:InverseDynamicsLoss",
        "prediction": "wm_agents.losses.prediction:Prediction",
        "reachability": "wm_agents.losses.reachability:Reachability",
        "reconstruction": "wm_agents.losses.reconstruction:Reconstruction",
        "rollout": "wm_agents.losses.rollout:Rollout",
        "sigreg": "wm_agents.losses.sigreg:SIGReg",
        "straightening": "wm_agents.losses.straightening:Straightening",
        "temporal_similarity": "wm_agents.losses.temporal_similarity:TemporalSimilarity",
        "variable_length": "wm_agents.losses.variable_length:VariableLength",
        "vicreg": "wm_agents.losses.vicreg:VICReg",
    },
)
TRAINING_OBJECTIVES = Registry(
    "training objective",
    {
        "forward-only": "wm_agents.losses.objectives:FORWARD_ONLY",
        "lewm": "wm_agents.losses.objectives:LEWM",
        "pldm": "wm_agents.losses.objectives:PLDM",
        "rc-aux": "wm_agents.losses.objectives:RC_AUX",
        "reconstruction": "wm_agents.losses.objectives:RECONSTRUCTION",
        "smwm": "wm_agents.losses.objectives:SMWM",
        "straightened": "wm_agents.losses.objectives:STRAIGHTENED",
        "variable-length": "wm_agents.losses.objectives:VARIABLE_LENGTH",
    },
)
"""Loss terms with their weights: what a world model is trained for."""
PLANNERS = Registry(
    "planner",
    {
        "cem": "wm_agents.planning.cem:CEM",
        "diffusion": "wm_agents.planning.diffusion:Diffusion",
        "diffusion-guidance": "wm_agents.planning.diffusion:DiffusionGuidance",
        "gradient": "wm_agents.planning.gradient:Gradient",
        "icem": "wm_agents.planning.icem:ICEM",
        "mppi": "wm_agents.planning.mppi:MPPI",
        "predictive-sampling": "wm_agents.planning.shooting:PredictiveSampling",
        "random-shooting": "wm_agents.planning.shooting:RandomShooting",
        "sgld": "wm_agents.planning.sgld:SGLD",
    },
)
DISCRETE_PLANNERS = Registry("planner of discrete actions", {"cem": "wm_agents.planning.categorical:CategoricalCEM"})
"""What a planner's name stands for where actions are discrete."""
OBJECTIVES = Registry(
    "objective",
    {
        name: f"wm_agents.planning.objectives:{name}"
        for name in ("terminal", "summed", "discounted", "doubling", "cosine", "control", "smoothness")
    },
)
LEARNERS = Registry(
    "stage of training",
    {
        "action-maps": "wm_agents.training.video:ActionMapsLearner",
        "imagination": "wm_agents.training.imagination:ImaginationLearner",
        "predictor": "wm_agents.training.predictor:PredictorLearner",
        "world-model": "wm_agents.training.world_model:WorldModelLearner",
    },
)
"""What is trained and is no head of its own; the learner of a head is named by the head's class."""
ACTION_SPACES = Registry(
    "action space",
    {
        "blocks": "wm_agents.agents.action_spaces:Blocks",
        "latent": "wm_agents.agents.action_spaces:LatentActionSpace",
        "latent-decoded": "wm_agents.agents.action_spaces:DecodedActionSpace",
        "macro": "wm_agents.agents.action_spaces:MacroActionSpace",
    },
)
GOALS = Registry("choice of goals", {"near": "wm_agents.datasets.pairs:near_pair"})
"""How ``reset()`` of an environment draws a start and a goal that belong together: called with the task, the distance
in environment steps, and a random generator."""
AGENTS = Registry(
    "agent",
    {
        "gc-idm": "wm_agents.agents.gc_idm:GCIDM",
        "hierarchical": "wm_agents.agents.hierarchical:HierarchicalMPC",
        "hiql": "wm_agents.agents.hiql:HIQL",
        "mpc": "wm_agents.agents.mpc:MPC",
    },
)
"""Classes of agents. Each planner's name is an agent too: :class:`wm_agents.MPC` with that planner."""
POLICIES = Registry(
    "exploration policy",
    {
        "arrange": "wm_agents.datasets.arrange:PushTArrange",
        "curious": "wm_agents.agents.curious_collection:Curious",
        "oracle-arrange": "wm_agents.datasets.manipulation:OracleArrange",
        "oracle-play": "wm_agents.datasets.manipulation:OraclePlay",
        "piecewise-random": "wm_agents.datasets.play:PiecewiseRandom",
        "play": "wm_agents.datasets.play:PushTPlay",
        "random-play": "wm_agents.datasets.manipulation:RandomPlay",
        "reach": "wm_agents.datasets.play:ArmReach",
        "smooth-random": "wm_agents.datasets.policies:SmoothRandom",
        "uniform-random": "wm_agents.datasets.policies:UniformRandom",
        "waypoint": "wm_agents.datasets.policies:Waypoint",
    },
)
"""Name to policy class; each is called as ``policy(env, rng)`` at the start of an episode."""
