"""For every test: a ROS domain that nothing else on this machine uses, and traffic that stays on it."""

import os
import signal
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _free_domain() -> int:
    """A ROS domain (1..100) in which no participant listens."""
    for step in range(100):
        domain = 1 + (os.getpid() + step) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain))  # DDS's discovery port of the domain
            except OSError:
                continue
        return domain
    raise RuntimeError("all ROS domains from 1 to 100 are in use on this machine")


# Where tests run in the background, Ctrl-C's signal is ignored, and every process that they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("ROS_DOMAIN_ID", str(_free_domain()))
os.environ.setdefault("ROS_LOG_DIR", str(ROOT / "log" / "test"))
if "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ:  # else that profile keeps the traffic here
    if os.environ.get("ROS_DISTRO") == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
