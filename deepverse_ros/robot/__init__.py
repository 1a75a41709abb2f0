"""What a robot is: its actions and measurements, its links and capsules, and which points are its own. numpy only."""
