# Bare `make` lists the targets. Everything needs only Go, make and git; the
# tools for lint and generate are built from the pinned modules in .ci/tools.

.DEFAULT_GOAL := help
SHELL := /bin/bash

GO            ?= go
GO_MIN        := 1.26
# The commit goes into `oncelog version` when this is a git checkout that git
# may read; a source archive builds all the same.
BUILDVCS      := $(shell git rev-parse -q --verify HEAD >/dev/null 2>&1 && echo true || echo false)
BIN           := bin/oncelog
# What `make test` hands to go test besides the packages.
TESTFLAGS     ?=
PKG           ?= ./...
# The text that the demo counts; empty: this repository's own documents.
FILES         ?=
BENCHFLAGS    ?=
# What `make rivals` hands on: -duration, -rounds, -systems, -dir.
RIVALFLAGS    ?=
# What `make chaos` and `make soak` hand to the runner; how long a soak takes.
CHAOSFLAGS    ?=
DURATION      ?= 30m
MUTANTFLAGS   ?=
# Commit or branch whose contract must still be understood, for buf breaking.
AGAINST       ?= origin/main
COMPOSE_FILE  := deploy/compose.yaml
# The plugin where there is one, else the stand-alone program.
COMPOSE       ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# .ci/tool prints the path of a tool of the pinned version and builds it into
# ./bin first when the machine has none. Expanded only by recipes that use it.
BUF            = $$(.ci/tool buf)
GOLANGCI       = $$(.ci/tool golangci-lint)
PROMTOOL       = $$(.ci/tool promtool)

# What `make conformance` runs, besides the check of the page itself.
CONFORMANCE   := ./coordinator/conformance/... ./coordinator/txn ./coordinator/group ./partition/conformance/... ./partition/pstate ./client

# These have no goroutines, and neither have their tests (cmd/internal/arch holds
# them to that), so the race detector has nothing to find.
RACE_SKIP     := /coordinator/(txn|group|catalog|membership)$$|/partition/pstate$$|/api/(batch|codec|token|oncelog/v1)$$|/client/streams/(internal/[a-z]+|state)$$|/cmd/internal/(arch|config|conformance)$$|/internal/datafile$$

# These let processes work, which cmd/internal/e2e does with the detector in every
# node, or worlds, which .ci/run's "sim race" does; what they have beside that is a
# goroutine that waits.
RACE_COVERED  := /cmd/internal/(bench|demo|history|mutants|sim|simcover)$$

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go-version
go-version:
	@command -v $(GO) >/dev/null || { echo "oncelog needs Go $(GO_MIN) or newer, and there is no '$(GO)' in PATH: see https://go.dev/dl/"; exit 1; }
	@v=$$($(GO) env GOVERSION); v=$${v#go}; \
	if [ "$$(printf '%s\n%s\n' "$(GO_MIN)" "$$v" | sort -V | head -n 1)" != "$(GO_MIN)" ]; then \
		echo "oncelog needs Go $(GO_MIN) or newer, and '$(GO)' is $$v: see https://go.dev/dl/"; exit 1; fi

.PHONY: build
build: go-version ## Build bin/oncelog, one static binary
	CGO_ENABLED=0 $(GO) build -buildvcs=$(BUILDVCS) -trimpath -o $(BIN) ./cmd/oncelog

.PHONY: test
test: go-version ## Run all tests
	$(GO) test $(TESTFLAGS) $(PKG)

.PHONY: race
race: go-version ## Run the tests of everything that has goroutines under the race detector
	@cc=$$($(GO) env CC); command -v $${cc%% *} >/dev/null || { echo "the race detector needs a C compiler (gcc), and there is no '$$cc' in PATH"; exit 1; }
	CGO_ENABLED=1 $(GO) test -race $(TESTFLAGS) $$($(GO) list $(PKG) | grep -vE '$(RACE_SKIP)|$(RACE_COVERED)')

.PHONY: model
model: ## Check the model of the protocol, and that its wrong variants are rejected (spin, gcc)
	coordinator/model/run

.PHONY: model-deep
model-deep: ## The same with larger bounds: an hour and 9 GB
	coordinator/model/run deep

# Every day has seeds of its own; one that fails is printed with the command that
# runs it again.
SIM_START     ?= $(shell date -u +%Y%m%d)0000
SIM_SEEDS     ?= 2000

.PHONY: sim
sim: build ## Run simulated worlds through faults, and check everything (SIM_START=..., SIM_SEEDS=...)
	$(BIN) sim --start $(SIM_START) --seeds $(SIM_SEEDS)

# What `make sim-cover` hands on: -start N, -seeds N, -v for what is not reached.
COVERFLAGS    ?=

.PHONY: sim-cover
sim-cover: go-version ## Measure how much of the code the simulated worlds alone reach (COVERFLAGS=...)
	$(GO) run ./cmd/internal/simcover $(COVERFLAGS)

.PHONY: mutants
mutants: go-version ## Plant bugs in the code, one at a time, and let the simulator find each (MUTANTFLAGS=...)
	$(GO) run ./cmd/internal/mutants $(MUTANTFLAGS)

.PHONY: conformance
conformance: go-version ## Run the conformance tables and scenarios, and hold CONFORMANCE.md to them
	@$(GO) test -count=1 -json $(CONFORMANCE) | $(GO) run ./cmd/internal/conformance

.PHONY: alerts
alerts: ## Check the alerts and recording rules, and run their tests (promtool)
	$(PROMTOOL) check config deploy/monitoring/prometheus.yaml
	$(PROMTOOL) check config --syntax-only deploy/monitoring/prometheus.tls.yaml
	$(PROMTOOL) test rules deploy/monitoring/*.test.yaml

# Kubernetes' types are dependencies of that module alone. The manifests are outside of it,
# so a result that go remembers would not be about them.
.PHONY: manifests
manifests: go-version ## Decode the manifests for Kubernetes strictly, and hold them to their README
	cd deploy/kubernetes/check && $(GO) test -count=1 ./...

.PHONY: chaos
chaos: build ## Run a real cluster through faults for a minute and check everything (CHAOSFLAGS=...)
	$(BIN) chaos --duration 60s $(CHAOSFLAGS)

.PHONY: soak
soak: build ## The same for long, with a line in RELIABILITY.md (DURATION=30m, CHAOSFLAGS=...)
	$(BIN) chaos --duration $(DURATION) --record RELIABILITY.md $(CHAOSFLAGS)

.PHONY: lint
lint: go-version ## Run golangci-lint (with gofmt and vet), buf lint and buf breaking
	$(GOLANGCI) config verify
	$(GOLANGCI) run ./...
	$(BUF) lint proto
	@if git rev-parse -q --verify "$(AGAINST):proto/buf.yaml" >/dev/null; then \
		echo "buf breaking proto --against $(AGAINST)"; \
		dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && git archive "$(AGAINST)" proto | tar -x -C "$$dir" && \
		$(BUF) breaking proto --against "$$dir/proto"; \
	else echo "no contract in $(AGAINST) yet: buf breaking has nothing to compare with"; fi

.PHONY: fmt
fmt: go-version ## Format Go and proto files
	$(GOLANGCI) fmt ./...
	$(BUF) format -w proto

.PHONY: generate
generate: go-version ## Generate api/ from proto/
	buf=$(BUF) && cd proto && "$$buf" generate

.PHONY: verify
verify: go-version ## Check that generated code, go.mod and go.sum are up to date
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && buf=$(BUF) && \
	(cd proto && "$$buf" generate -o "$$dir/proto") && \
	for f in $$(cd "$$dir/api" && find . -type f); do \
		diff -u "api/$$f" "$$dir/api/$$f" || { echo "api/ is not what proto/ generates: run 'make generate'"; exit 1; }; done && \
	for f in $$(cd api && find . -name '*.pb.go'); do \
		[ -f "$$dir/api/$$f" ] || { echo "api/$$f comes from no proto file: delete it"; exit 1; }; done
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: demo
demo: build ## Count words exactly once on a real cluster while nodes are killed (FILES=...)
	$(BIN) demo $(FILES)

.PHONY: bench
bench: build ## Measure throughput and latency on a real cluster (BENCHFLAGS=...)
	$(BIN) bench $(BENCHFLAGS)

# etcd and NATS are dependencies of that module alone.
.PHONY: rivals
rivals: build ## Measure appends beside etcd and NATS JetStream, in turns on this machine (RIVALFLAGS=...)
	cd cmd/internal/rivals && $(GO) build -o ../../../bin/rivals .
	bin/rivals -binary $(BIN) $(RIVALFLAGS)

.PHONY: up
up: ## Start a cluster of six containers with docker compose
	@docker info >/dev/null 2>&1 || { echo "no docker daemon answers: start docker, or use '$(BIN) dev' for a cluster without containers"; exit 1; }
	deploy/image.sh
	$(COMPOSE) -f $(COMPOSE_FILE) up -d
	@echo "a cluster is starting; export ONCELOG_SERVERS=127.0.0.1:7100,127.0.0.1:7110,127.0.0.1:7120 and try: $(BIN) cluster status"

.PHONY: down
down: ## Stop the containers and delete their data
	$(COMPOSE) -f $(COMPOSE_FILE) down --volumes --remove-orphans

.PHONY: tools
tools: go-version ## Build the pinned buf, golangci-lint and grpcurl into ./bin where they are missing
	@for t in buf golangci-lint grpcurl; do echo "$$t: $$(.ci/tool $$t)" || exit 1; done

.PHONY: clean
clean: ## Delete what was built
	rm -rf bin .demo coverage.out
