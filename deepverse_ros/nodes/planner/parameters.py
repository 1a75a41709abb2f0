"""The planner's parameters, and what the search makes of them."""

from dataclasses import dataclass

from deepverse_ros.model.inputs import MAX_HORIZON
from deepverse_ros.nodes.control import controller_output, setpoint_output
from deepverse_ros.nodes.messages import command_layout
from deepverse_ros.nodes.perception import model_loading, observation_source, plan_limits
from deepverse_ros.nodes.planner import controller_reports, keeper, plan_progress
from deepverse_ros.nodes.runtime.parameters import Parameter, Parameters
from deepverse_ros.planning.objectives.registry import OBJECTIVES
from deepverse_ros.planning.search.icem import IcemConfig
from deepverse_ros.planning.search.mpc import MpcConfig
from deepverse_ros.planning.search.mppi import MppiConfig

PARAMETERS = (
    *model_loading.PARAMETERS,
    Parameter("seed", 0, "Seed of the search; the same seed gives the same plans.", 0, 2**31 - 1, dynamic=True),
    Parameter("horizon", 0, "Steps of a plan, from 2 on; 0: as many as the model was trained for.", 0, MAX_HORIZON),
    Parameter("samples", 256, "Candidate plans in the first round; later rounds have fewer.", 4, 4096, dynamic=True),
    Parameter("sampler", "icem", "The search.", choices=("icem", "mppi"), dynamic=True),
    Parameter("iterations", 6, "Rounds of candidates per search.", 1, 50, dynamic=True),
    Parameter(
        "search_level",
        "coarse",
        "Where candidates are imagined; the best are judged on the fine level in any case.",
        choices=("coarse", "fine"),
        dynamic=True,
    ),
    Parameter("max_replans", 2, "Further searches, with other seeds, while no plan is accepted.", 0, 50, dynamic=True),
    Parameter("verified", 4, "How many of the best plans of a search are judged.", 1, 64, dynamic=True),
    Parameter("early_weight", 0.05, "Cost of the mean distance on the way, per metre.", 0.0, 10.0, dynamic=True),
    Parameter("latent_weight", 0.01, "Cost of a last frame that looks unlike the goal (m).", 0.0, 10.0, dynamic=True),
    *(
        Parameter(f"{entry.name}_weight", entry.weight, entry.description, 0.0, entry.most, dynamic=True)
        for entry in OBJECTIVES
    ),
    Parameter(
        "clearance_margin",
        0.05,
        "Clearance that costs nothing (m); it follows from min_clearance and its bound where these are known.",
        0.0,
        1.0,
        dynamic=True,
    ),
    *plan_limits.PARAMETERS,
    Parameter(
        "reached_tolerance",
        0.03,
        "Estimated distance of the tool that counts as reached (m).",
        0.001,
        1.0,
        dynamic=True,
    ),
    Parameter("max_plans", 8, "Plans to try for one goal, accepted or not.", 1, 1000, dynamic=True),
    Parameter("execute_steps", 8, "Steps of an accepted plan to execute before the next look.", 1, 32, dynamic=True),
    Parameter("settle_time", 0.1, "Seconds between the end of a plan and the next look (s).", 0.0, 10.0, dynamic=True),
    Parameter("settle_timeout", 2.0, "Seconds more, at most, until the joints stand still.", 0.0, 60.0, dynamic=True),
    Parameter("planning_timeout", 15.0, "Seconds after which planning returns its best (s).", 0.1, 600.0, dynamic=True),
    Parameter("observation_timeout", 5.0, "Seconds without a usable image that end a goal.", 0.1, 600.0, dynamic=True),
    Parameter("monitor_path", True, "Stop a plan when an image shows the tool off its imagined path.", dynamic=True),
    Parameter(
        "timing_tolerance",
        0.3,
        "Seconds that the robot, as images show it, may be ahead of a plan or behind it on its imagined path (s).",
        0.0,
        2.0,
        dynamic=True,
    ),
    Parameter(
        "recalibration_rate",
        0.1,
        "How fast the bound of the goal distance widens after plans that miss it (logarithm, per plan); 0: never.",
        0.0,
        1.0,
    ),
    Parameter(
        "recalibration_limit",
        3.0,
        "The bound of the goal distance gets at most so many times as wide as it was calibrated.",
        1.0,
        10.0,
    ),
    Parameter(
        "goal_change",
        0.02,
        "A picture on ~/goal_image that shows the tool further than this from the goal is a new goal (m).",
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        "goal_dwell",
        1.0,
        "Seconds that a plan is executed, at least, before a new goal on ~/goal_image ends it (s).",
        0.0,
        60.0,
        dynamic=True,
    ),
    Parameter(
        "retry_period",
        2.0,
        "Seconds that the robot holds before it tries again to reach ~/goal_image (s).",
        0.1,
        600.0,
        dynamic=True,
    ),
    Parameter(
        "execute_proposals",
        False,
        "Also execute accepted plans from ~/proposed_plan and ~/proposed_trajectory.",
        dynamic=True,
    ),
    *plan_progress.PARAMETERS,
    *keeper.PARAMETERS,
    *command_layout.PARAMETERS,
    *setpoint_output.PARAMETERS,
    *controller_output.PARAMETERS,
    *controller_reports.PARAMETERS,
    *observation_source.PARAMETERS,
)


@dataclass(frozen=True)
class Settings:
    """What a pursuit goes by; named and described like the parameters."""

    reached_tolerance: float
    max_plans: int
    execute_steps: int
    settle_time: float
    settle_timeout: float
    monitor_path: bool
    timing_tolerance: float
    pass_timeout: float
    planning_timeout: float
    observation_timeout: float
    stale_timeout: float

    @classmethod
    def of(cls, parameters: Parameters) -> "Settings":
        """The values at this moment."""
        return cls(**{name: parameters[name] for name in cls.__dataclass_fields__})


def mpc_config(parameters: Parameters, trained: int) -> MpcConfig:
    """Args: trained: steps that the model was trained for. Raises: ShapeError."""
    p = parameters.values()
    horizon = p.horizon or trained
    sampler = IcemConfig if p.sampler == "icem" else MppiConfig
    return MpcConfig(
        sampler=sampler(samples=p.samples, horizon=horizon),
        iterations=p.iterations,
        search_level=p.search_level,
        max_replans=p.max_replans,
        verified=p.verified,
        early=p.early_weight,
        latent=p.latent_weight,
        weights={entry.name: getattr(p, f"{entry.name}_weight") for entry in OBJECTIVES},
        margin=p.clearance_margin,
        limits=plan_limits.limits(parameters),
    )
