# Each target sets up what it needs in .venv, once, from the locked versions in requirements/.

PORT ?= 8000
# Not `?=`: some environments carry a HOST of their own.
HOST = 127.0.0.1
# More arguments for the command, as in: make test ARGS="-k races"
ARGS =
# The first of these that fits; the locked wheels are made for Python 3.11 to 3.14.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11

PIP = .venv/bin/python -m pip -qq --disable-pip-version-check install --no-deps --no-compile
# Bytecode is made where it is first needed, and kept: making all of it takes 10 s of the set-up.
unexport PYTHONDONTWRITEBYTECODE

TYPED = $(wildcard seatsvc tests bench)

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-browser test-faults test-all lint types format bench \
	audit sbom lock load up down migrate admin FORCE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# The service replaces the shell, so that it is make's own child and ends with it.
run: .venv/.has-local ## start the service with servers of its own; PORT=8000 HOST=127.0.0.1
	@exec .venv/bin/seatsvc local --die-with-parent --host "$(HOST)" --port "$(PORT)" --data .local $(ARGS)

test: .venv/.has-test ## run the tests, but for the slow ones
	@.venv/bin/pytest -n 2 --dist loadfile $(ARGS)

test-slow: .venv/.has-test ## run the slow tests only
	@status=0; .venv/bin/pytest -m slow --collect-only >/dev/null 2>&1 || status=$$?; \
	if [ $$status = 5 ]; then echo "There are no slow tests yet."; \
	else exec .venv/bin/pytest -m slow $(ARGS); fi

test-browser: .venv/.has-test ## try the page in a real browser (needs chromium)
	@.venv/bin/pytest -m browser $(ARGS)

test-faults: .venv/.has-test ## break real servers under load, in some 15 minutes; FAULTS=full FIGURES=table.md
	@.venv/bin/pytest -m faults tests/faults $(ARGS)

test-all: .venv/.has-test ## run all tests
	@.venv/bin/pytest -m "" $(ARGS)

lint: types ## check style, format and types
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

types: .venv/.has-test
	@.venv/bin/mypy $(TYPED)

format: .venv/.has-test ## format the code and repair what can be repaired
	@.venv/bin/ruff check --fix-only
	@.venv/bin/ruff format

bench: .venv/.has-bench ## measure against yardsticks, in under 8 minutes (needs wrk); ARGS="--help"
	@.venv/bin/python -m bench $(ARGS)

load: $(if $(findstring --plot,$(ARGS)),.venv/.has-bench,.venv/.has-local) ## load a running service; ARGS="flash-sale --organizer admin"
	@.venv/bin/seatsvc load $(ARGS)

# Strict, so that what cannot be looked up does not pass for clean.
audit: .venv/.has-audit ## look for known vulnerabilities in the locked versions
	@.venv/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes $(ARGS) \
		$(addprefix --requirement requirements/,serve.txt local.txt test.txt)

SBOM = dist/seatsvc.cdx.json

sbom: .venv/.has-audit ## list what the service is made of, as CycloneDX; SBOM=dist/seatsvc.cdx.json
	@mkdir -p "$(dir $(SBOM))"
	@.venv/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
		--output-reproducible --output-file "$(SBOM)" requirements/serve.txt
	@echo "Wrote $(SBOM)"

LOCK = uv pip compile pyproject.toml --group build --quiet --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock" $(ARGS)

lock: ## lock the versions of pyproject.toml (needs uv); ARGS=--upgrade for the newest
	@$(LOCK) --extra local --extra otel --extra test --extra browser --output-file requirements/test.txt
	@$(LOCK) --extra audit --constraints requirements/test.txt --output-file requirements/audit.txt
	@$(LOCK) --extra bench --constraints requirements/test.txt --output-file requirements/bench.txt
	@$(LOCK) --extra local --constraints requirements/test.txt --output-file requirements/local.txt
	@$(LOCK) --extra otel --constraints requirements/test.txt --output-file requirements/otel.txt
	@$(LOCK) --constraints requirements/test.txt --output-file requirements/serve.txt

up: .env ## build and start everything in Docker
	@docker compose up --build --detach --wait
	@echo "Ready: http://127.0.0.1:8000/docs"

down: ## stop what `make up` started; the data stays
	@docker compose down

migrate: .venv/.has-local ## bring the database of DATABASE_URL up to date
	@.venv/bin/seatsvc migrate $(ARGS)

admin: .venv/.has-local ## create an admin in the database of DATABASE_URL
	@.venv/bin/seatsvc create-admin $(ARGS)

# Remade when the checkout was moved, when its Python is gone, or when the last try was cut short.
# The base executable, since `python3` may be the one of an active .venv.
.venv/.made: FORCE
	@if [ "$$(cat $@ 2>/dev/null)" = "$$(pwd -P)" ] && .venv/bin/python -c 'import pip' 2>/dev/null; \
	then exit; fi; \
	for python in $(PYTHON); do \
		base=$$("$$python" -c 'import sys; (3, 11) <= sys.version_info < (3, 15) and \
			print(sys._base_executable)' 2>/dev/null); [ -z "$$base" ] || break; \
	done; \
	if [ -z "$$base" ]; then \
		echo 'Python 3.11 to 3.14 is needed, and found in none of: $(PYTHON)' >&2; \
		echo 'Name yours, as in: make run PYTHON=/path/to/python3.13' >&2; exit 1; \
	fi; \
	if ! "$$base" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$base lacks the venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	fi; \
	echo 'Setting up .venv (first time: about half a minute)'; \
	"$$base" -m venv --clear .venv && pwd -P > $@

.venv/.has-local: .venv/.made requirements/local.txt pyproject.toml
	@echo "Installing the service and its servers"
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements/local.txt
	@$(PIP) --no-build-isolation --editable .
	@touch $@

# After .has-local, so that two installations never meet.
.venv/.has-test: .venv/.has-local requirements/test.txt
	@echo "Installing the test tools"
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements/test.txt
	@touch $@

.venv/.has-bench: .venv/.has-local requirements/bench.txt
	@echo "Installing the plotter"
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements/bench.txt
	@touch $@

.venv/.has-audit: .venv/.made requirements/audit.txt
	@echo "Installing the audit tools"
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements/audit.txt
	@touch $@

.env:
	@python3 -c 'import os, re, secrets; os.umask(0o077); \
	text = re.sub("(?m)^([A-Z_]+)=$$", lambda m: m[0] + secrets.token_hex(32), open(".env.example").read()); \
	open(".env.new", "w").write(text); os.replace(".env.new", ".env")'
	@echo "Made .env with new secrets"
