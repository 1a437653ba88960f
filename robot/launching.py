# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (launch and launch_ros come with a ROS 2 installation, and our own folder of launch files has the first one's name.)
"""The node table as ROS 2 launch descriptions."""

import os
import time
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from episodes.errors import InputError
from robot.restarting import Fate, Restarts, is_robot
from robot.table import ARGUMENTS, NodeSpec, nodes, read_arguments


def description_of(kind: str) -> LaunchDescription:
    """A set of nodes; where one that is needed ends for good, all of them do."""
    arguments = [
        DeclareLaunchArgument(argument.name, default_value=str(argument.default), description=argument.what)
        for argument in ARGUMENTS[kind]
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=lambda context: _actions(kind, context))])


def _actions(kind: str, context: LaunchContext) -> list[Any]:
    said = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS[kind]}
    written = {a.name: said[a.name] for a in ARGUMENTS[kind] if said[a.name] != str(a.default)}
    try:
        given = read_arguments(kind, written)
        specs = nodes(kind, given)
    except InputError as error:
        return [LogInfo(msg=f"firsthand: {error}"), EmitEvent(event=Shutdown(reason=str(error)))]
    # As `up` has it: networks of this size lose more to waiting threads than they gain.
    threads = "OMP_NUM_THREADS" not in os.environ
    actions: list[Any] = [SetEnvironmentVariable("OMP_NUM_THREADS", "1")] if threads else []
    # A simulation's commands have a real robot's names, and somebody's robot may listen in the same network.
    apart = (kind == "sim" or given.get("task")) and "ROS_AUTOMATIC_DISCOVERY_RANGE" not in os.environ
    actions += [SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")] if apart else []
    for spec in specs:
        actions += _started(spec, said, Restarts(spec.name, beside=is_robot(each.name for each in specs)))
    return actions


def _started(spec: NodeSpec, said: dict[str, str], restarts: Restarts) -> list[Any]:
    """A node, and what is done when it ends."""
    files = [said["params_file"]] if said["params_file"] else []
    parameters = {key: ParameterValue(value, value_type=type(value)) for key, value in spec.parameters.items()}
    node = Node(
        package="firsthand",
        executable=spec.name,
        name=spec.name,
        namespace="/".join(filter(None, (said["namespace"], spec.namespace))),
        parameters=[parameters, *files],
        output="screen",
    )

    def over(event: Any, context: LaunchContext) -> list[Any]:
        fate = Fate.OVER if context.is_shutdown else restarts.fate(event.returncode, time.monotonic())
        if fate is Fate.OVER:
            return [EmitEvent(event=Shutdown(reason=f"node {spec.path} has ended"))]
        told = LogInfo(msg=f"firsthand: node {spec.path} has ended with {event.returncode}; {fate.value}")
        if fate is Fate.WITHOUT:
            return [told]
        restarts.begun_again(time.monotonic())
        return [told, *_started(spec, said, restarts)]

    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=over))]
