"""`python -m deepverse_ros.cli`, as `torchrun` needs it."""

from deepverse_ros.cli import main

if __name__ == "__main__":
    main()
