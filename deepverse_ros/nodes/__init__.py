"""Thin ROS 2 nodes, and what only they need. Nothing outside this package imports rclpy or a message."""
