"""Things: what moves and is not the robot, found in pictures, carried along a future and drawn where it will be."""
