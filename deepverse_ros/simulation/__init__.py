"""Simulated robots: physics, camera pictures and ground truth, without ROS."""
