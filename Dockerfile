# syntax=docker/dockerfile:1
# deepverse_ros on an installed ROS 2; docs/containers.md says how to build and run it.
ARG ROS_DISTRO=jazzy

# development: ROS 2, compilers and all that package.xml names. .devcontainer works in it, on a mounted checkout.
FROM ros:${ROS_DISTRO}-ros-base AS development
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# venv for `make env`, and what renders without a display: as tools/ros_from_pypi/system_tools.py asks for them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl-mesa0 libegl1 libgl1-mesa-dri python3-venv sudo \
    && rm -rf /var/lib/apt/lists/*

# package.xml alone: a change of anything else does not install all of this again.
COPY package.xml /tmp/deepverse_ros/
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths /tmp/deepverse_ros --ignore-src -y \
    && rosdep keys --from-paths /tmp/deepverse_ros --ignore-src --dependency-types exec > /tmp/keys.txt \
    && xargs -a /tmp/keys.txt rosdep resolve > /tmp/resolved.txt \
    && grep -v '^#' /tmp/resolved.txt | tr ' ' '\n' | sort -u > /opt/packages_to_run.txt \
    && rm -rf /tmp/* /var/lib/apt/lists/*

# Whoever works in a mounted checkout should have its owner's number. Ubuntu 24.04 brings a user of this one.
ARG USER_ID=1000
RUN if id ubuntu > /dev/null 2>&1; then userdel --remove ubuntu; fi \
    && useradd --create-home --no-log-init --uid "$USER_ID" --shell /bin/bash deepverse \
    && echo 'deepverse ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/deepverse \
    && echo "source /opt/ros/$ROS_DISTRO/setup.bash" >> /home/deepverse/.bashrc

# An index of PyTorch's builds, as pytorch.org names them: the one without CUDA saves several gigabytes. Empty: pip's own.
ARG TORCH_INDEX=
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX}

# build: the package, with its environment, where it will run; both hold absolute paths.
FROM development AS build
WORKDIR /opt/deepverse_ros
# What `make env` reads comes first: a change of the code does not install the libraries again.
COPY Makefile requirements.txt requirements-dev.txt ./
COPY tools/ros_from_pypi tools/ros_from_pypi
RUN --mount=type=cache,target=/var/cache/pip \
    . "/opt/ros/$ROS_DISTRO/setup.bash" && PIP_CACHE_DIR=/var/cache/pip make env
COPY . .
# Bytecode is made here, where it can be kept: who runs the package may not write. Some libraries ship files that are no
# Python of this version; compileall goes on after them, and says so by its exit status.
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && make build \
    && { .ros/venv/bin/python -m compileall -q -j 0 .ros/venv/lib deepverse_ros > /dev/null || true; }

# runtime: what the package needs to run. ros-core, because ros-base brings compilers.
FROM ros:${ROS_DISTRO}-ros-core AS runtime
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY --from=development /opt/packages_to_run.txt /opt/
# hadolint ignore=DL3008
RUN apt-get update \
    && xargs -a /opt/packages_to_run.txt \
        apt-get install -y --no-install-recommends libegl-mesa0 libegl1 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*
ARG USER_ID=1000
RUN if id ubuntu > /dev/null 2>&1; then userdel --remove ubuntu; fi \
    && useradd --create-home --no-log-init --uid "$USER_ID" --shell /bin/bash deepverse
COPY --from=build /opt/deepverse_ros /opt/deepverse_ros
COPY tools/docker_entrypoint.sh /entrypoint.sh
USER ${USER_ID}
WORKDIR /home/deepverse
# As Ctrl-C: ros2 launch ends its nodes in order.
STOPSIGNAL SIGINT
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "deepverse_ros", "arm_mpc.launch.py"]
