"""A robot that goes on learning: as deploy, or sim where a task is named, with the learner beside it.

    ros2 launch firsthand finetune.launch.py run:=/path/to/run new:=/path/to/new/run contract:=/path/to/contract.yaml
    ros2 launch firsthand finetune.launch.py run:=/path/to/run new:=/path/to/new/run task:=lift-quick

Without ros2: firsthand up finetune run:=/path/to/run new:=/path/to/new/run ...
Episodes are begun by a person, or by a program: firsthand finetune --ros --episodes 100 --enable
"""

from launch import LaunchDescription

from robot.launching import description_of


def generate_launch_description() -> LaunchDescription:
    return description_of("finetune")
