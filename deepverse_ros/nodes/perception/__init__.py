"""What a node sees: camera, depth, joints, odometry and frames, as windows that a model takes."""
