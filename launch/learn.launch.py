"""Learning on another host than the robot's: the learner, and who carries recordings there and policies back.

    ros2 launch firsthand learn.launch.py run:=/path/to/run new:=/path/to/new/run contract:=/path/to/contract.yaml

Without ros2: firsthand up learn run:=/path/to/run new:=/path/to/new/run contract:=/path/to/contract.yaml
The robot's host: deploy.launch.py with new:=/path/for/policies
"""

from launch import LaunchDescription

from robot.launching import description_of


def generate_launch_description() -> LaunchDescription:
    return description_of("learn")
