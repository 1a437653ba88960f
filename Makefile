# firsthand from a bare machine: Python 3.11 or newer, make and the package registries. `make` lists the targets.

PYTHON ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BEGUN := $(VENV)/.begun

# The first Python that will do. 3.11 to 3.13 come first: for newer ones some packages have to be compiled.
find_python = for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; python=; \
	done; \
	test -n "$$python" || for python in $(or $(PYTHON),python3 python3.14); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	test -n "$$python" || { echo "firsthand: $(or $(PYTHON),python3) is not Python 3.11 or newer; \
	install one, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }

# Installs the Debian packages named by $$packages where that is ours to do, else says how and stops.
apt_install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "firsthand: apt-get install -y $$packages"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$packages >/dev/null; \
	elif command -v apt-get >/dev/null; then \
		echo "firsthand: install it as root: apt-get install -y $$packages" >&2; exit 1; \
	else \
		echo "firsthand: install it with this system's package manager (on Debian: apt-get install -y $$packages)" >&2; exit 1; \
	fi

# The registry's rclpy is for x86-64 Linux, and not beside a ROS 2 that is sourced: two of them do not mix.
extras = if [ -z "$$AMENT_PREFIX_PATH" ] && [ "$$(uname -sm)" = "Linux x86_64" ]; then echo encoders,ros,dev; \
	else echo encoders,dev; fi

.PHONY: help setup libraries browser demo test lint clean

help:
	@echo "make demo    set up, then go from logs to an improving policy in simulation; ends with a report"
	@echo "make test    set up, then run the tests        (make test ARGS='-k store')"
	@echo "make lint    set up, then ruff and pyright"
	@echo "make setup   only set up: system libraries checked, packages in $(VENV)"
	@echo "make clean   remove $(VENV) and what tools left behind"

demo: setup
	@$(BIN)/firsthand demo $(ARGS)

test: setup browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

setup: libraries $(READY)

# What simulated cameras and OpenCV load from the system; no package registry has it.
libraries:
	@$(find_python); \
	missing() { "$$python" -c 'from episodes.doctor import missing_libraries as m; print(*m())'; }; \
	lacking=$$(missing) || exit 1; \
	if [ -n "$$lacking" ]; then \
		echo "firsthand: this system lacks $$lacking" >&2; \
		packages=$$("$$python" -c 'from episodes.doctor import APT_PACKAGES; print(APT_PACKAGES)'); $(apt_install); \
		lacking=$$(missing); \
		test -z "$$lacking" || { echo "firsthand: still lacking $$lacking" >&2; exit 1; }; \
	fi

# The monitor's page is tested in a real browser. Where there is none and this is not ours to change, those tests skip.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	packages=chromium; ( $(apt_install) ) || echo "firsthand: no chromium: the tests of the monitor's page skip" >&2

# An environment keeps the path it was made at: in a moved or copied tree it is made again.
ifneq ($(file < $(READY)),$(CURDIR))
.PHONY: $(READY)
endif

# .begun stands while packages are being installed: an environment left half made is made again, too. Where pip only fails to
# bring an old environment up to date (no network, say), that one is kept.
$(READY): pyproject.toml constraints.txt
	@trap 'exit 130' INT TERM; $(find_python); start=$$(date +%s); fresh=; \
	if [ -e $(BEGUN) ] || { [ -e $(READY) ] && [ "$$(cat $(READY))" != "$(CURDIR)" ]; } || \
		! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "firsthand: making $(VENV) with $$("$$python" -VV | head -n 1 | cut -d ' ' -f 1-2)"; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "firsthand: this $$python has no venv with pip" >&2; \
			packages="python3-venv $$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
			$(apt_install); \
		}; \
		rm -rf $(BIN); "$$python" -m venv --clear $(VENV) || exit 1; \
		fresh=yes; \
	fi; \
	echo "firsthand: installing packages into $(VENV); the first time that is gigabytes (torch) and takes minutes"; \
	touch $(BEGUN); \
	$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check --prefer-binary \
		-c constraints.txt -e ".[$$($(extras))]" || { test -n "$$fresh" || rm -f $(BEGUN); exit 1; }; \
	rm -f $(BEGUN); echo "$(CURDIR)" >$@; \
	echo "firsthand: set up in $$(( $$(date +%s) - start )) s"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
