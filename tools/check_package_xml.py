"""Validate package.xml with catkin_pkg, as the ROS build tools do; a warning counts as an error."""

import sys
from pathlib import Path

from catkin_pkg.package import InvalidPackage, parse_package


def main() -> int:
    """Print what is wrong with package.xml; 1 where anything is."""
    path = Path(__file__).resolve().parent.parent / "package.xml"
    warnings: list[str] = []
    try:
        parse_package(str(path), warnings=warnings)
    except InvalidPackage as error:
        warnings.append(str(error))
    for text in warnings:
        print(f"{path.name}: {text}", file=sys.stderr)
    return 1 if warnings else 0


if __name__ == "__main__":
    sys.exit(main())
