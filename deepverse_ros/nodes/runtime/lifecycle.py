"""What every node of this package has: a parameter table, throttled warnings, diagnostics and a guarded lifecycle."""

import gc
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.executors import Executor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from deepverse_ros.errors import DeepverseError, printable
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import DiagnosticsPublisher
from deepverse_ros.nodes.runtime.executor import BATCH_SECONDS, NodeExecutor, OneThreadExecutor
from deepverse_ros.nodes.runtime.message_bounds import Bound, BoundedReader, bound_of
from deepverse_ros.nodes.runtime.parameter_files import check_files
from deepverse_ros.nodes.runtime.parameters import Parameter, Parameters

END_TIMEOUT = 12.0
"""Seconds that a node has to deactivate and clean up after a signal."""

RESTING_STATES = ("unconfigured", "inactive", "active", "finalized")
T = TypeVar("T")


class RobotNode(LifecycleNode):
    """A lifecycle node whose transitions fail with a sentence instead of a silent error.

    Subclasses implement `configure`, `activate`, `deactivate` and `cleanup`; whatever these raise is logged and the
    transition fails. After a failed `configure` the node is unconfigured again, so that a parameter can be corrected
    and the transition repeated.

    Attributes:
        parameters: the table of this node; `parameters["name"]` is a current value.
        diagnostics: what is said on /diagnostics once a second from `configure` on.
    """

    WARNING_PERIOD = 5.0
    """Seconds before the same warning is logged again."""

    def __init__(self, name: str, table: Iterable[Parameter], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._warned: dict[str, float] = {}
        self._traced: set[tuple] = set()
        self._owned: list[Any] = []
        self.parameters = Parameters(self, table)
        self.diagnostics = DiagnosticsPublisher(self)

    # What subclasses implement ------------------------------------------------------------------------------------
    def configure(self) -> None:
        """Read and validate parameters, load what is needed, create publishers and subscriptions."""

    def activate(self) -> None:
        """Start work."""

    def deactivate(self) -> None:
        """Stop work; publish a hold where something moves."""

    def cleanup(self) -> None:
        """Release what `configure` made and the node does not `own`; also where that failed half way."""

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        steps = (
            ("parameters", self._check_parameters),
            ("configure", self.configure),
            ("diagnostics", self.diagnostics.start),
        )
        if all(self._guard(what, step) for what, step in steps):
            self.parameters.frozen = True
            return super().on_configure(state)
        self._release("cleanup after the failed configure")
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)  # publishers first, so that nothing made by `activate` is lost
        if self._guard("activate", self.activate):
            return result
        self._guard("deactivate after the failed activate", self.deactivate)
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._guard("deactivate", self.deactivate)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self.diagnostics.stop()
        self.parameters.frozen = False
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._guard("deactivate", self.deactivate)
        self._release()
        self.diagnostics.stop()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.get_logger().error("a transition failed; the node is unconfigured now")
        self._release()
        self.parameters.frozen = False
        return TransitionCallbackReturn.SUCCESS

    def own(self, entity: T) -> T:
        """The entity, which is destroyed before `cleanup`, the newest first.

        Args: entity: a publisher, subscription, timer or service of this node, a part that has `destroy`, or a function
        that ends something.
        """
        self._owned.append(entity)
        return entity

    def _release(self, what: str = "cleanup") -> None:
        self.diagnostics.clear_checks()
        while self._owned:
            self._guard(what, partial(self._destroy, self._owned.pop()))
        self._guard(what, self.cleanup)

    def _destroy(self, entity: Any) -> None:
        of_node: tuple[tuple[type, Callable[[Any], object]], ...] = (
            (LifecyclePublisher, self.destroy_lifecycle_publisher),
            (Publisher, self.destroy_publisher),
            (Subscription, self.destroy_subscription),
            (Timer, self.destroy_timer),
            (Service, self.destroy_service),
        )
        for kind, destroy in of_node:
            if isinstance(entity, kind):
                destroy(entity)
                return
        if callable(entity):
            entity()
        else:
            entity.destroy()

    def _guard(self, what: str, step: Callable[[], None]) -> bool:
        try:
            step()
        except DeepverseError as error:
            self.get_logger().error(f"{what} failed: {error}")
            return False
        except Exception as error:  # a transition must end in a state, whatever happened
            self.get_logger().error(f"{what} failed: {type(error).__name__}: {error}\n{traceback.format_exc()}")
            return False
        return True

    # Parameters ---------------------------------------------------------------------------------------------------
    def _check_parameters(self) -> None:
        """Raises: ParameterError where something was given that would be passed over in silence."""
        self.parameters.require_known()
        for sentence in check_files(sys.argv, self.get_fully_qualified_name()):
            self.warn("parameters", sentence)

    def set_parameters(self, parameter_list: list[RosParameter]) -> list[SetParametersResult]:
        return [self.set_parameters_atomically([given]) for given in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """What `ros2 param set` calls. Integers are taken for floats; a name that is not known is refused."""
        for given in parameter_list:
            if problem := self.parameters.unknown(given.name):
                return SetParametersResult(successful=False, reason=problem)
        return super().set_parameters_atomically([self.parameters.converted(given) for given in parameter_list])

    # Helpers ------------------------------------------------------------------------------------------------------
    def warn(self, key: str, message: str) -> None:
        """Log a warning, at most every WARNING_PERIOD seconds for one `key`; /diagnostics shows the last one."""
        message = printable(message)
        self.diagnostics.warned(message)
        now = time.monotonic()
        if now - self._warned.get(key, -self.WARNING_PERIOD) >= self.WARNING_PERIOD:
            self._warned[key] = now
            self.get_logger().warning(message)

    def warn_unexpected(self, key: str, what: str, error: BaseException) -> None:
        """Warn of what no one foresaw: with its traceback the first time that this kind comes from this place.

        An error of this package is one that was foreseen, and says itself what is wrong.
        """
        sentence = f"{what}: {error}" if isinstance(error, DeepverseError) else f"{what}: {named(error)}"
        frames = traceback.extract_tb(error.__traceback__)
        place = (key, type(error), *((f.filename, f.lineno) for f in frames[-1:]))
        if isinstance(error, DeepverseError) or place in self._traced:
            self.warn(f"{key} {type(error).__name__}", sentence)
            return
        self._traced.add(place)
        self.diagnostics.warned(printable(sentence))
        # Frames without the error's own text, which may hold a message's.
        trace = "".join(traceback.format_list(frames)).rstrip()
        self.get_logger().error(f"{printable(sentence)}\n{trace}")

    def subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable,
        profile: QoSProfile,
        group: CallbackGroup | None = None,
        bound: Bound | None = None,
        unreadable: Callable[[Any, str], None] | None = None,
        drain: bool = False,
    ) -> Subscription:
        """A subscription that reports an incompatible publisher as a warning and in /diagnostics.

        Args:
            callback: only stores, as the thread that spins the node calls it; what takes longer is a worker's.
            bound: what is too large to be read, see `message_bounds`; None: what is usual for this kind.
            unreadable: called, after a warning, with the bytes of a message that was not read and why.
            drain: read all that waits with each message: where a busy node would else be behind by its whole queue.
        """
        name = self.resolve_topic_name(topic)

        def refuse(data: Any, problem: str) -> None:
            self.warn(f"unreadable {name}", f"{name}: a message was not read: {problem}")
            if unreadable is not None:
                unreadable(data, problem)

        reader = BoundedReader(kind, callback, bound or bound_of(kind), refuse)
        subscription = self.create_subscription(
            kind,
            topic,
            reader,
            profile,
            callback_group=group,
            event_callbacks=qos.subscription_events(topic, self.diagnostics.qos_mismatch),
            raw=reader.raw,
        )
        reader.drained = subscription if drain else None
        return subscription

    def advertise(self, kind: type, topic: str, profile: QoSProfile) -> Publisher:
        """A lifecycle publisher (silent unless active) that reports an incompatible subscriber."""
        return self.create_lifecycle_publisher(
            kind, topic, profile, event_callbacks=qos.publisher_events(topic, self.diagnostics.qos_mismatch)
        )

    def end(self) -> None:
        """Deactivate and clean up from whatever state the node is in; it is finalized then.

        A transition in progress (such as loading a model) is waited for.
        """
        deadline = time.monotonic() + END_TIMEOUT
        while (state := self._state_machine.current_state[1]) not in RESTING_STATES:
            if time.monotonic() > deadline:
                self.get_logger().error(f"still {state} after {END_TIMEOUT:g} s; ending without cleaning up")
                return
            time.sleep(0.05)
        if state != "finalized":
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        # rclpy's state machine holds the handle of its node until garbage is collected: the participant goes on till
        # then, and one that ends beside another in the same process may wait for it for ever (Fast DDS issue 6502).
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def now(self) -> float:
        """The node's clock (simulated time where `use_sim_time` is set) in seconds."""
        return self.get_clock().now().nanoseconds * 1e-9


def named(error: BaseException) -> str:
    """An unexpected error in one sentence."""
    return printable(f"{type(error).__name__}: {error}")


def run(
    node_class: Callable[[], RobotNode], threads: int = 2, gather: float = BATCH_SECONDS, argv: list[str] | None = None
) -> int:
    """Spin one node until SIGINT or SIGTERM, then end it in order: deactivate (hold), cleanup, destroy.

    The context stays valid until the node has ended, so that the hold still leaves the process.

    Args: threads: callbacks that may run beside each other; 1: no other thread at all, which is quickest.
    gather: seconds, see `NodeExecutor`; the longer, the less a node that computes is kept from it.
    Returns: the exit status of the process.
    """
    stop = threading.Event()
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy_implementation.RCLError as error:  # such as a parameter file that is not there
        rclpy.logging.get_logger("deepverse_ros").fatal(str(error))
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = None
    try:
        node = node_class()
        # What the imports made stays: a collection that walks it again takes up to 0.2 s, in which no stop is sent.
        gc.collect()
        gc.freeze()
        executor = OneThreadExecutor() if threads == 1 else NodeExecutor(threads, gather)
        executor.add_node(node)
        while not stop.is_set() and rclpy.ok():
            _spin_once(executor, node)
        # As a task, so that the executor goes on handling what the transition destroys.
        ending = executor.create_task(node.end)
        deadline = time.monotonic() + 2 * END_TIMEOUT
        while not ending.done() and rclpy.ok() and time.monotonic() < deadline:
            _spin_once(executor, node)
        executor.shutdown(timeout_sec=0)
    except DeepverseError as error:
        rclpy.logging.get_logger("deepverse_ros").fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin_once(executor: Executor, node: RobotNode) -> None:
    try:
        executor.spin_once(timeout_sec=0.2)
    except Exception as error:  # one failed callback must not end the node
        node.warn_unexpected("callback", "a callback failed", error)
