"""A recording of a real robot, through the topics that the robot would have."""
