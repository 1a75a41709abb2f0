"""A lifecycle node with a parameter, a topic, a service and an action, for the tests of the `ros2` verbs."""

import time

import rclpy
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from deepverse_ros.action import PlanToGoal


class VerbsNode(LifecycleNode):
    """Publishes its parameter `word`; succeeds at every goal of `plan_to_goal`."""

    def __init__(self) -> None:
        super().__init__("verbs_node")
        self.declare_parameter("word", "hello")
        self._words = self.create_publisher(String, "~/words", 1)
        self.create_timer(0.1, lambda: self._words.publish(String(data=self.get_parameter("word").value)))
        self.create_service(Trigger, "~/trigger", self._trigger)
        self._actions = ActionServer(self, PlanToGoal, "~/plan_to_goal", self._reach)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def _trigger(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, "triggered"
        return response

    def _reach(self, goal: object) -> PlanToGoal.Result:
        # More than once: who sends a goal may have found the service before the topic of the feedback.
        for iteration in range(1, 11):
            feedback = PlanToGoal.Feedback(iteration=iteration, best_score=0.5)
            goal.publish_feedback(feedback)  # type: ignore[attr-defined]
            time.sleep(0.1)
        goal.succeed()  # type: ignore[attr-defined]
        return PlanToGoal.Result(reached=True, final_distance=goal.request.goal_tolerance)  # type: ignore[attr-defined]


def main() -> None:
    rclpy.init()
    node = VerbsNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
