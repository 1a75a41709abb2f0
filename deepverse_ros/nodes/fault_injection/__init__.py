"""Topics handed on with faults in them, to see what a robot's safety does when its parts fail."""
