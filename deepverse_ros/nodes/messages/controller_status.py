"""How a controller fares with the newest command that was sent to it, and how that is said."""

from dataclasses import dataclass
from enum import IntEnum

from std_msgs.msg import Header

from deepverse_ros.msg import ControllerStatus as StatusMessage
from deepverse_ros.nodes.messages.time import stamp_from_seconds, stamp_seconds


class State(IntEnum):
    """The values are those of the ControllerStatus message's constants."""

    IDLE = StatusMessage.IDLE
    SENT = StatusMessage.SENT
    EXECUTING = StatusMessage.EXECUTING
    SUCCEEDED = StatusMessage.SUCCEEDED
    REJECTED = StatusMessage.REJECTED
    ABORTED = StatusMessage.ABORTED
    CANCELED = StatusMessage.CANCELED
    UNANSWERED = StatusMessage.UNANSWERED
    NO_SERVER = StatusMessage.NO_SERVER


_SENTENCES = {
    State.REJECTED: "the controller rejected {command}: '{action}' takes only its own joints, all of them, while it is "
    "active; its log says which of these it was",
    State.ABORTED: "the controller aborted {command}: {text}",
    State.CANCELED: "the controller canceled {command}: {text}",
    State.UNANSWERED: "the controller did not answer {command}: '{action}' {text}",
    State.NO_SERVER: "no controller took {command}: there is no action server '{action}'; is the controller active, "
    "and is the name right (ros2 action list)?",
}


@dataclass(frozen=True)
class ControllerStatus:
    """sent: ROS seconds at which the command was; the other fields as in the message."""

    action: str
    state: State = State.IDLE
    error_code: int = 0
    text: str = ""
    sent: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the command is not, or no longer, executed, and nobody here wanted that."""
        return self.state in _SENTENCES

    @property
    def pending(self) -> bool:
        """Whether the controller has yet to end with it."""
        return self.state in (State.SENT, State.EXECUTING)

    def sentence(self, command: str) -> str:
        """What went wrong, empty where nothing did. Args: command: what it was, as "plan goal-1.3"."""
        if not self.failed:
            return ""
        text = self.text or "it does not say why"
        return _SENTENCES[self.state].format(command=command, action=self.action, text=text)

    def to_msg(self) -> StatusMessage:
        return StatusMessage(
            header=Header(stamp=stamp_from_seconds(self.sent)),
            action=self.action,
            state=int(self.state),
            error_code=self.error_code,
            text=self.text,
        )

    @classmethod
    def from_msg(cls, message: StatusMessage) -> "ControllerStatus":
        """Raises: ValueError for a state that is none."""
        sent = stamp_seconds(message.header.stamp)
        return cls(message.action, State(message.state), message.error_code, message.text, sent)
