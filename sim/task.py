"""Tasks from text: `lift`, `lift-quick`, `lift:rate=10,horizon=40`, `lift-back`, `pusht`, `halfcheetah`, `door`,
`point-robot`, `two-qualities`, `linear-quadratic`."""

from collections.abc import Sequence

from episodes.errors import unknown
from episodes.typed import parse
from sim.base import Observation, Task
from sim.gaps import Gap, as_gap, parse_settings

_QUICK = {"rate": "10", "actions": "xyz+gripper", "horizon": "40", "physics_step": "0.004"}
LIFT_PRESETS: dict[str, dict[str, str]] = {
    "lift": {},
    "lift-quick": _QUICK,
    "lift-back": {"goal": "back"},
    "lift-back-quick": {**_QUICK, "goal": "back"},
}
"""Settings of Lift that a name stands for. The quick ones are for processors: half the steps, twice the physics step;
the ones with `back` put the cube back where it can be lifted again."""

_LOCOMOTION = ("halfcheetah", "hopper", "walker2d")
_ROBOSUITE = (
    *("door", "stack", "nutassembly", "nutassemblysquare", "nutassemblyround", "pickplace", "pickplacecan"),
    *("pickplacemilk", "pickplacebread", "pickplacecereal", "toolhang", "wipe"),
)


def task_names() -> list[str]:
    """Every name that a specification can begin with."""
    return [*LIFT_PRESETS, "pusht", "point-robot", "two-qualities", "linear-quadratic", *_LOCOMOTION, *_ROBOSUITE]


def make_task(
    spec: str,
    *,
    cameras: Sequence[str] = (),
    image_size: tuple[int, int] = (84, 84),
    gap: Gap | str | None = None,
) -> Task:
    """The task that a specification names: `name`, or `name:setting=value,...`.

    Args:
        spec: for example `lift-quick`, or `lift:rate=10,actions=xyz+gripper,horizon=40`.
        cameras: the cameras to observe, by the model's names (tasks without MuJoCo have one, `image`).
        image_size: height and width of the observed pictures [px].
        gap: a difference in dynamics, as a `Gap` or as text such as `gravity=2,friction=0.3`.

    Raises:
        InputError: for an unknown task, setting, camera or gap (with the nearest known one), or a value that is wrong.
    """
    name, _, text = spec.partition(":")
    if name not in task_names():
        raise unknown("task", name, task_names())
    settings, gap = parse_settings(text, f"task {spec!r}"), as_gap(gap)
    where = f"task {spec!r}"
    # Each simulator is imported only for its own tasks: robosuite alone takes a second.
    if name in LIFT_PRESETS:
        from sim.robosuite_tasks import LiftSettings, LiftTask

        lift = parse(LiftSettings, LIFT_PRESETS[name] | settings, where)
        return LiftTask(spec, lift, cameras=cameras, image_size=image_size, gap=gap)
    if name == "pusht":
        from sim.pusht import PushTSettings, PushTTask

        return PushTTask(spec, parse(PushTSettings, settings, where), cameras=cameras, image_size=image_size, gap=gap)
    if name == "two-qualities":
        from sim.two_qualities import TwoQualitiesSettings, TwoQualitiesTask

        bandit = parse(TwoQualitiesSettings, settings, where)
        return TwoQualitiesTask(spec, bandit, cameras=cameras, image_size=image_size, gap=gap)
    if name == "linear-quadratic":
        from sim.linear_quadratic import LinearQuadraticSettings, LinearQuadraticTask

        linear = parse(LinearQuadraticSettings, settings, where)
        return LinearQuadraticTask(spec, linear, cameras=cameras, image_size=image_size, gap=gap)
    if name == "point-robot":
        from sim.point_robot import PointRobotSettings, PointRobotTask

        point = parse(PointRobotSettings, settings, where)
        return PointRobotTask(spec, point, cameras=cameras, image_size=image_size, gap=gap)
    if name in _LOCOMOTION:
        from sim.gymnasium_tasks import GymnasiumSettings, GymnasiumTask

        locomotion = parse(GymnasiumSettings, settings, where)
        return GymnasiumTask(spec, name, locomotion, cameras=cameras, image_size=image_size, gap=gap)
    from sim.robosuite_tasks import OTHERS, RobosuiteSettings, RobosuiteTask

    environment, instruction = OTHERS[name]
    other = parse(RobosuiteSettings, settings, where)
    return RobosuiteTask(spec, environment, instruction, other, cameras=cameras, image_size=image_size, gap=gap)


__all__ = ["LIFT_PRESETS", "Observation", "Task", "make_task", "task_names"]
