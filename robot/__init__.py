"""Everything that knows ROS 2: contracts bound to topics, frames, bags, the guardian, the nodes."""
