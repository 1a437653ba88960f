"""A simulated robot, a policy, the guardian and the recorder.

    ros2 launch firsthand sim.launch.py run:=/path/to/run
    ros2 launch firsthand sim.launch.py run:=/path/to/run real_time_factor:=0 store:=/path/to/store

Without ros2: firsthand up sim run:=/path/to/run
"""

from launch import LaunchDescription

from robot.launching import description_of


def generate_launch_description() -> LaunchDescription:
    return description_of("sim")
