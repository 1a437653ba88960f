"""Records episodes of a robot that something else moves: a person with a leader arm, an old program.

    ros2 launch firsthand record.launch.py contract:=/path/to/contract.yaml store:=/path/to/store
    ros2 service call /recorder/start std_srvs/srv/Trigger
    ros2 service call /recorder/success std_srvs/srv/Trigger        or recorder/failure, or recorder/stop

Without ros2: firsthand up record contract:=/path/to/contract.yaml store:=/path/to/store
"""

from launch import LaunchDescription

from robot.launching import description_of


def generate_launch_description() -> LaunchDescription:
    return description_of("record")
