"""The MuJoCo models of the cube tasks: OGBench's arm, gripper and table, drawn with a few simple shapes."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from wm_agents.envs.rendering import HIDDEN_GROUP

ARM_JOINTS = 6
FINGER_JOINTS = 8
CUBE_HALF = 0.02
"""Half of a cube's side in m (OGBench, ``cube_inner.xml``)."""
GRIPPER = "ur5e/robotiq/"
"""Prefix of the gripper's names in the scene."""

_CUBES = ((0.9, 0.15, 0.15, 1), (0.15, 0.35, 0.9, 1))
_FLOOR, _SHADOW, _LINK = (0.86, 0.86, 0.82, 1), (0.62, 0.62, 0.6, 1), (0.45, 0.48, 0.54, 1)
_PALM, _FINGER = (0.16, 0.18, 0.22, 1), (0.05, 0.55, 0.25, 0.6)
_SHADOW_RADII = {"gripper": 0.03, "cube": 0.024}
# PD gains of the six arm actuators, stiffness and damping (OGBench, ``ManipSpaceEnv.post_compilation``).
_STIFFNESS, _DAMPING = (4500, 4500, 4500, 2000, 2000, 500), (-450, -450, -450, -200, -200, -50)

# What a state may be: all that was found in 144,000 steps of the policies oracle-play, random-play, smooth-random and
# uniform-random, with room to spare; the extremes found are in brackets.
_TABLE = np.array([[0.2, -0.4, 0.0], [0.65, 0.4, 0.55]])  # cube centres (0.239, -0.360, 0.006 to 0.611, 0.361, 0.352)
_JOINT_SLACK = 0.1  # rad beyond a joint's limit (0.051)
_OVERLAP = 0.025  # m that two bodies sink into each other (0.018: fingers pressed on cubes and table)
_TORN = 0.005  # m that the gripper's linkage comes apart (0.0009)
_MAX_SPEEDS = {"arm": 10.0, "fingers": 100.0, "cubes": 6.0, "spins": 150.0}  # (3.5 rad/s, 40 rad/s, 2.1 m/s, 43 rad/s)


@cache
def arm_model() -> mujoco.MjModel:
    """Return the bare UR5e arm, for inverse kinematics; shared, so leave it unchanged."""
    return mujoco.MjModel.from_xml_string(_xml("universal_robots_ur5e/ur5e.xml"))


def scene_model(cubes: int) -> mujoco.MjModel:
    """Return the arm with its gripper over a table with ``cubes`` cubes; the caller's own copy.

    Physics are OGBench's: its files for the arm, the gripper and the invisible walls around the table, its gains, its
    cubes. Bodies that only show something (its target cubes, the arm's meshes of 100,000 faces) are left out; capsules
    stand for the arm, boxes for the gripper. ``tests/envs/test_cube.py`` compares the dynamics with OGBench's.
    """
    return _compiled(cubes).__copy__()


def camera(model: mujoco.MjModel) -> mujoco.MjvCamera:
    """Return the camera of the images: the whole table and the raised arm, from the front, almost without perspective.

    The field of view that goes with it is set in ``model``.
    """
    view = mujoco.MjvCamera()
    view.azimuth, view.elevation, view.distance, view.lookat[:] = 180, -48, 3.0, (0.42, 0.0, 0.2)
    model.vis.global_.fovy = 15.5
    return view


def place_markers(
    model: mujoco.MjModel, data: mujoco.MjData, pinch: np.ndarray, cubes: np.ndarray, goals: np.ndarray | None
) -> None:
    """Lay the discs below the fingers and the cubes and, for people, put the goal cubes into place.

    Args:
        model: What :func:`scene_model` returned.
        data: Its positions are up to date; those of the markers are overwritten.
        pinch: The point between the fingers, ``[3]``.
        cubes: Position and quaternion of each cube, ``[cubes, 7]``.
        goals: The same of the goal, or None.
    """
    for name, place in [("shadow", pinch), *((f"shadow{index}", pose) for index, pose in enumerate(cubes))]:
        data.site_xpos[model.site(name).id] = *place[:2], 0.0005
    for index, pose in enumerate(() if goals is None else goals):
        site = model.site(f"goal{index}").id
        data.site_xpos[site] = pose[:3]
        mujoco.mju_quat2Mat(data.site_xmat[site], pose[3:])


def problem_of(model: mujoco.MjModel, data: mujoco.MjData, names: tuple[str, ...], state: np.ndarray) -> str:
    """Return in words what is impossible about a state; empty if it is one that the simulation can be in.

    Args:
        model: What :func:`scene_model` returned.
        data: Scratch space; its positions are overwritten.
        names: Name of each entry of the state.
        state: ``qpos`` and ``qvel``, float64 ``[S]``.
    """
    size = ARM_JOINTS + FINGER_JOINTS
    joints, poses = state[:size], state[size : model.nq].reshape(-1, 7)
    speeds, twists = np.abs(state[model.nq :][:size]), np.abs(state[model.nq :][size:]).reshape(-1, 6)
    if (np.abs(np.linalg.norm(poses[:, 3:], axis=-1) - 1) > 1e-3).any():
        return f"a cube whose quaternion is not of length 1: {poses[:, 3:]}"
    if ((poses[:, :3] < _TABLE[0]) | (poses[:, :3] > _TABLE[1])).any():
        return f"a cube at {poses[:, :3]}, outside the table, whose corners are {_TABLE.tolist()}"
    low, high = model.jnt_range[:size].T
    beyond = np.maximum(low - joints, joints - high)
    if beyond.max() > _JOINT_SLACK:
        worst = int(np.argmax(beyond))
        return f"{names[worst]} at {joints[worst]:.3f} rad; its limits are {low[worst]:.3f} and {high[worst]:.3f}"
    groups = (speeds[:ARM_JOINTS], speeds[ARM_JOINTS:], twists[:, :3], twists[:, 3:])
    for (part, fastest), values in zip(_MAX_SPEEDS.items(), groups, strict=True):
        if values.max() > fastest:
            return f"{part} at a speed of {values.max():.1f}; at most {fastest} is possible"
    data.qpos[:] = state[: model.nq]
    mujoco.mj_fwdPosition(model, data)
    depth = max(-min(data.contact.dist, default=0.0), _shared_depth(poses[:, :3]))
    torn = np.abs(data.efc_pos[data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY]).max()
    if depth > _OVERLAP:
        return f"bodies that overlap by {1e3 * depth:.0f} mm (cubes, arm, table)"
    return f"finger joints that do not fit together ({1e3 * torn:.0f} mm off)" if torn > _TORN else ""


def _shared_depth(places: np.ndarray) -> float:
    """How deep, in m, the balls inside two cubes at ``places [cubes, 3]`` lie in each other, at most.

    MuJoCo before 3.4 finds no contact between cubes at the very same place.
    """
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(len(places), np.inf))
    return float(2 * CUBE_HALF - gaps.min())


@cache
def _compiled(cubes: int) -> mujoco.MjModel:
    folder = descriptions()
    gripper = mujoco.MjSpec.from_string(_xml("robotiq_2f85/2f85.xml"))
    gripper.meshdir = str(folder / "robotiq_2f85" / "assets")
    arm = mujoco.MjSpec.from_string(_xml("universal_robots_ur5e/ur5e.xml"))
    scene = mujoco.MjSpec.from_string(_xml("floor_wall.xml"))
    for spec in (scene, arm, gripper):
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.impratio = 10
    _dress_gripper(gripper)
    arm.attach(gripper, site="attachment_site", prefix="robotiq/")
    scene.attach(arm, frame=scene.worldbody.add_frame(), prefix="ur5e/")
    _dress_scene(scene)
    for index in range(cubes):
        _add_cube(scene, index, across=0.1 * index - 0.05 * (cubes - 1))
    model = scene.compile()
    model.opt.timestep = 0.002
    model.vis.quality.numslices, model.vis.quality.numstacks = 12, 8  # corners of a capsule: faster to draw
    model.actuator_gainprm[:ARM_JOINTS, 0] = _STIFFNESS
    model.actuator_gainprm[:ARM_JOINTS, 2] = _DAMPING
    model.actuator_biasprm[:ARM_JOINTS, 1] = -np.array(_STIFFNESS)
    return model


def _add_cube(scene: mujoco.MjSpec, index: int, across: float) -> None:
    """Add a cube as ``cube.xml`` has it, and a translucent one that marks its goal for people."""
    cube = scene.worldbody.add_body(name=f"cube{index}", pos=[0.3, across, CUBE_HALF])
    cube.add_freejoint(name=f"cube{index}")
    shape = {"type": mujoco.mjtGeom.mjGEOM_BOX, "size": [CUBE_HALF] * 3}
    cube.add_geom(**shape, density=1240, solref=[0.004, 1], contype=3, rgba=_CUBES[index])
    _add_shadow(scene, f"shadow{index}", _SHADOW_RADII["cube"])
    scene.worldbody.add_site(name=f"goal{index}", **shape, rgba=(*_CUBES[index][:3], 0.45), group=HIDDEN_GROUP)


def _add_shadow(scene: mujoco.MjSpec, name: str, radius: float) -> None:
    disc = mujoco.mjtGeom.mjGEOM_CYLINDER
    scene.worldbody.add_site(name=name, type=disc, size=[radius, 0.0005, 0], rgba=_SHADOW)


def _dress_gripper(gripper: mujoco.MjSpec) -> None:
    """Hide the gripper's meshes and draw a palm, and fingers that stand out."""
    for geom in gripper.geoms:
        geom.group = HIDDEN_GROUP
    box = {"type": mujoco.mjtGeom.mjGEOM_BOX, "contype": 0, "conaffinity": 0, "mass": 0.0}
    gripper.body("base").add_geom(**box, pos=[0, 0, 0.035], size=[0.026, 0.036, 0.045], rgba=_PALM)
    for side in ("left", "right"):
        gripper.body(f"{side}_pad").add_geom(**box, pos=[0, 0.0025, 0.012], size=[0.012, 0.009, 0.026], rgba=_FINGER)


def _dress_scene(scene: mujoco.MjSpec) -> None:
    """Draw the arm's capsules and a plain floor, and nothing of the walls."""
    for geom in scene.geoms:
        if geom.name.startswith("wall") or geom.name == "floor":
            geom.group = HIDDEN_GROUP
        elif geom.classname.name.endswith("collision") and GRIPPER not in geom.classname.name:
            # The only cylinder lies in a capsule of its radius: drawing both would leave dots.
            cylinder = geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER
            geom.group, geom.rgba = HIDDEN_GROUP if cylinder else 0, _LINK
    # A box for the floor: MuJoCo cuts a plane into many pieces, which took two thirds of a frame's time.
    box = {"type": mujoco.mjtGeom.mjGEOM_BOX, "contype": 0, "conaffinity": 0}
    scene.worldbody.add_geom(**box, pos=[0.42, 0, -0.01], size=[1, 1, 0.01], rgba=_FLOOR)
    _add_shadow(scene, "shadow", _SHADOW_RADII["gripper"])
    light = scene.visual.headlight
    light.ambient, light.diffuse, light.specular = [0.45] * 3, [0.35] * 3, [0.0] * 3
    scene.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[1, -1, 2],
        dir=[-0.3, 0.45, -1],
        diffuse=[0.4] * 3,
        specular=[0.0] * 3,
        castshadow=False,
    )


@cache
def _xml(name: str) -> str:
    """Return one of OGBench's files without what is only looked at, which loads slowly.

    Meshes that give a body its mass stay: those of bodies without ``inertial``.
    """
    root = ElementTree.parse(descriptions() / name).getroot()
    for parent in list(root.iter()):
        for child in list(parent):
            looks = child.tag in ("light", "keyframe", "visual", "texture", "material")
            if looks or (
                child.get("class") == "visual" and child.tag == "geom" and parent.find("inertial") is not None
            ):
                parent.remove(child)
        parent.attrib.pop("material", None)
    used = {geom.get("mesh") for geom in root.iter("geom")}
    for assets in root.findall("asset"):
        for mesh in assets.findall("mesh"):
            if Path(mesh.get("file", "")).stem not in used:
                assets.remove(mesh)
    return ElementTree.tostring(root, encoding="unicode")


def descriptions() -> Path:
    """Return the folder of OGBench's model files.

    Raises:
        ImportError: OGBench is not installed.
    """
    package = find_spec("ogbench")  # located, not imported: that would register its own environments
    if package is None or package.origin is None:
        raise ImportError("The cube tasks need OGBench: pip install 'ogbench>=1.2'.")
    return Path(package.origin).parent / "manipspace" / "descriptions"
