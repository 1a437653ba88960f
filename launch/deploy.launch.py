"""A policy on a robot: the actor proposes, the guardian has the last word, the recorder keeps every episode.

    ros2 launch firsthand deploy.launch.py run:=/path/to/run contract:=/path/to/contract.yaml store:=/path/to/store
    ros2 service call /guardian/enable std_srvs/srv/SetBool "{data: true}"
    ros2 service call /recorder/start std_srvs/srv/Trigger

Without ros2: firsthand up deploy run:=/path/to/run contract:=/path/to/contract.yaml store:=/path/to/store
"""

from launch import LaunchDescription

from robot.launching import description_of


def generate_launch_description() -> LaunchDescription:
    return description_of("deploy")
