# make help lists what there is to do. GNU make; needs Go, git and, for tests, a C compiler:
# scripts/toolcheck says what is missing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
# Where the shells look for completions, below PREFIX.
BASHCOMP ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMP  ?= $(PREFIX)/share/zsh/site-functions
FISHCOMP ?= $(PREFIX)/share/fish/vendor_completions.d

# RACE= tests without the race detector, on a machine that has no C compiler.
RACE ?= -race
# How many tests of a package run at a time. Most of them wait: for Slurm, for an engine, for a lease to
# run out.
PARALLEL ?= 8
# More for go test: make test GOTEST='-run TestApply -v' PKG=./internal/task
GOTEST ?=
PKG ?= ./...

# Tools are pinned in modules of their own, so that none of what they need is in go.mod.
LINT := go tool -modfile=internal/tools/lint/go.mod golangci-lint
BUF  := go tool -modfile=internal/tools/buf/go.mod buf

MODULE  := github.com/dspy-agent/dspy-agent
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X $(MODULE)/internal/version.Version=$(VERSION) -X $(MODULE)/internal/version.Commit=$(COMMIT)
# The stamp is in LDFLAGS; the Go tool's own fails where git does not trust the owner of the checkout.
GOBUILD := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Every directory below cmd/ with Go in it is a command. Those that need cgo are built apart; the others
# must run on any machine, however old its C library is.
COMMANDS := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard cmd/*/*.go)))))
CGO_COMMANDS := $(filter gpu-probe,$(COMMANDS))
PURE_COMMANDS := $(filter-out $(CGO_COMMANDS),$(COMMANDS))
# go-nvml names functions that nvml.h calls deprecated; an older driver has nothing newer.
export CGO_CFLAGS ?= -g -O2 -Wno-deprecated-declarations
SCRIPTS := $(shell grep -lE '^\#!/bin/(ba)?sh|^\#!/usr/bin/env (ba)?sh' scripts/* .ci/* 2>/dev/null)

##@ Use

.PHONY: build
build: toolcheck-build ## Build every command into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GOBUILD) -o bin/ $(addprefix ./cmd/,$(PURE_COMMANDS))
ifneq ($(CGO_COMMANDS),)
	@if command -v "$${CC:-gcc}" >/dev/null 2>&1 || command -v cc >/dev/null 2>&1; then \
		set -x; CGO_ENABLED=1 $(GOBUILD) -o bin/ $(addprefix ./cmd/,$(CGO_COMMANDS)); \
	else \
		echo "$(CGO_COMMANDS): not built, there is no C compiler (apt-get install gcc libc6-dev); nvidia-smi is used instead"; \
	fi
endif

# Not a plain "install: build": under sudo there is often no Go on PATH, and what root builds here
# belongs to root.
.PHONY: install
install: ## Install commands and shell completions below PREFIX (/usr/local); DESTDIR is put before it
	@if [ -x bin/dspy-agent ] && { [ -n "$${SUDO_UID:-}" ] || ! command -v go >/dev/null 2>&1; }; then \
		echo "installing bin/ as it is"; \
	else \
		$(MAKE) --no-print-directory build; \
	fi
	install -d '$(DESTDIR)$(BINDIR)'
	for c in $(COMMANDS); do \
		[ ! -x bin/$$c ] || install -m 755 bin/$$c '$(DESTDIR)$(BINDIR)/' || exit 1; \
	done
	@$(call completion,bash,$(BASHCOMP)/dspy-agent)
	@$(call completion,zsh,$(ZSHCOMP)/_dspy-agent)
	@$(call completion,fish,$(FISHCOMP)/dspy-agent.fish)
	@case ":$$PATH:" in *':$(BINDIR):'*) ;; *) echo "your shell does not look in $(BINDIR); so that it does: export PATH=$(BINDIR):\$$PATH" ;; esac

# $(call completion,SHELL,FILE): what the command writes, or nothing and a word about it.
define completion
if text=$$(bin/dspy-agent completion $(1) 2>/dev/null) && [ -n "$$text" ]; then \
	install -d "$$(dirname '$(DESTDIR)$(2)')" && printf '%s\n' "$$text" >'$(DESTDIR)$(2)' && \
	chmod 644 '$(DESTDIR)$(2)' && echo "completion for $(1): $(DESTDIR)$(2)"; \
else \
	echo "completion for $(1): none, this build has no 'dspy-agent completion $(1)'"; \
fi
endef

.PHONY: uninstall
uninstall: ## Remove what install put below PREFIX; queues and settings stay
	rm -f $(foreach c,$(COMMANDS),'$(DESTDIR)$(BINDIR)/$(c)')
	rm -f '$(DESTDIR)$(BASHCOMP)/dspy-agent' '$(DESTDIR)$(ZSHCOMP)/_dspy-agent' '$(DESTDIR)$(FISHCOMP)/dspy-agent.fish'

.PHONY: demo
demo: build ## Show what it does, on this machine, in a folder of its own
	scripts/demo

.PHONY: demo-gpu
demo-gpu: build ## Show the scheduling of GPUs, on a machine with or without: the GPUs are pretended
	scripts/demo-gpu

.PHONY: demo-slurm
demo-slurm: build setup-tests ## Show tasks as Slurm jobs, on a cluster that is made for it on this machine
	scripts/demo-slurm

##@ Test

.PHONY: test
test: toolcheck-test setup-tests ## Unit and integration tests, with the race detector
	go test $(RACE) -parallel $(PARALLEL) -timeout 8m $(GOTEST) $(PKG)

.PHONY: test-unit
test-unit: toolcheck-test ## Only what is quick (-short)
	go test $(RACE) -parallel $(PARALLEL) -short -timeout 3m $(GOTEST) $(PKG)

.PHONY: test-full
test-full: toolcheck-test setup-tests ## Everything, with long rounds of crashes and random histories (an hour, perhaps)
	DSPY_TEST_FULL=1 go test $(RACE) -parallel $(PARALLEL) -count=1 -timeout 90m $(GOTEST) $(PKG)

# The folder is whole: copy it to a machine with a GPU, which needs no Go.
.PHONY: test-gpu
test-gpu: toolcheck-test ## Build bin/gpu-test, and run it if this machine has a GPU: read-only, against the real driver
	@rm -rf bin/gpu-test && mkdir -p bin/gpu-test
	CGO_ENABLED=1 $(GOBUILD) -o bin/gpu-test/ ./cmd/gpu-probe
	CGO_ENABLED=1 go test -c -trimpath -ldflags '-s -w' -o bin/gpu-test/conformance ./gpu/nvml
	$${CC:-gcc} -O2 -o bin/gpu-test/hold gpu/nvml/testdata/hold.c -ldl
	@cp scripts/gpu-test-run bin/gpu-test/run.sh
	@if command -v nvidia-smi >/dev/null 2>&1; then bin/gpu-test/run.sh bin/gpu-test/report; \
	else echo "no nvidia-smi here: copy bin/gpu-test to a machine with a GPU, and run: gpu-test/run.sh REPORT"; fi

.PHONY: setup-tests
setup-tests: ## Install the programs that tests run besides our own, where that is allowed
	@scripts/setup-tests

# How long each fuzz test runs, and a regular expression for the names of those that do.
FUZZTIME ?= 30s
FUZZ ?= .

.PHONY: fuzz
fuzz: toolcheck-build ## Every fuzz test for FUZZTIME (30s), up to the first finding; FUZZ=REGEXP for some of them
	scripts/fuzz '$(FUZZTIME)' '$(FUZZ)'

.PHONY: cover
cover: toolcheck-build setup-tests ## Test coverage by package, and in coverage.html
	go test -coverprofile=coverage.out -coverpkg=./... -timeout 15m $(GOTEST) $(PKG)
	go tool cover -html=coverage.out -o coverage.html
	@go tool cover -func=coverage.out | tail -1

##@ Measure

# One round each: those that compare repeat and take turns by themselves.
BENCH := go test -run '^$$' -benchtime 1x -timeout 60m

.PHONY: bench
bench: toolcheck-build setup-tests ## All benchmarks there are, small ones included; those below print what was promised
	@$(MAKE) --no-print-directory help | grep -E '^  bench-'
	@pkgs=$$(grep -rlE --include='*_test.go' '^func Benchmark' . | xargs -r -n1 dirname | sort -u); \
	set -x; go test -run '^$$' -bench . -benchmem -timeout 60m $(GOTEST) $$pkgs

.PHONY: bench-line
bench-line: toolcheck-build ## From submit to running; /bin/true beside a bare loop; a drain with nothing to do; restart and all costs at 1,000, 200,000 and a million waiting tasks
	$(BENCH) -bench '^BenchmarkSubmitToRunning$$' ./internal/e2e
	$(BENCH) -bench '^BenchmarkTrue$$' -benchtime 5x ./internal/e2e
	$(BENCH) -bench '^BenchmarkDrainOfNothing$$' ./internal/e2e
	$(BENCH) -bench '^BenchmarkRestart$$' ./internal/e2e
	DSPY_BENCH_MILLION=1 $(BENCH) -bench '^Benchmark(Backlog|Memory)$$' ./queue

.PHONY: bench-submit
bench-submit: toolcheck-build setup-tests ## Durable submissions a second over gRPC, beside beanstalkd and Redis
	$(BENCH) -bench '^BenchmarkSubmit$$' ./internal/e2e

.PHONY: bench-gpu
bench-gpu: toolcheck-build ## 10,000 waiting GPU tasks over 16 GPUs planned; a snapshot of 8 GPUs taken in
	go test -run '^$$' -bench '^BenchmarkGPUPlan$$' ./internal/scheduler
	go test -run '^$$' -bench '^Benchmark(Plan|Snapshot|Largest)$$' ./gpu

.PHONY: bench-slurm
bench-slurm: toolcheck-build setup-tests ## How soon the end of a Slurm job is noticed, with a hundred running
	go test -run '^$$' -benchtime 1x -timeout 20m -bench '^BenchmarkNoticed$$' ./slurm

.PHONY: bench-workers
bench-workers: toolcheck-build setup-tests ## 2,000 runs of true in a worker job, in a job array, and in jobs of their own (of which it submits 200)
	$(BENCH) -bench '^BenchmarkWorkers$$' ./internal/e2e

# How long the load lasts.
LOAD_SECONDS ?= 60

.PHONY: bench-streams
bench-streams: toolcheck-build ## 1,000 result streams and 100 log followers while 50 tasks a second run, for LOAD_SECONDS (60)
	DSPY_BENCH_SECONDS=$(LOAD_SECONDS) $(BENCH) -bench '^BenchmarkStreams$$' ./internal/e2e

##@ Change

.PHONY: check
check: toolcheck-check check-format check-modules check-arch check-proto check-generated vet lint check-scripts ## All that must hold before a change is merged, besides the tests
	@echo "check: all is well"

.PHONY: lint
lint: ## golangci-lint, as .golangci.yml says
	$(LINT) run

.PHONY: fix
fix: ## Let the linters repair what they can, then format
	$(LINT) run --fix
	$(LINT) fmt

.PHONY: vet
vet: ## go vet, with and without the points at which crash tests die
	go vet ./...
	go vet -tags failpoint ./...

.PHONY: check-format
check-format: ## Is everything formatted?
	$(LINT) fmt --diff

.PHONY: check-modules
check-modules: ## Are go.mod and go.sum tidy, and the modules what go.sum says?
	go mod tidy -diff
	go mod verify

.PHONY: check-arch
check-arch: ## The rules about the whole tree: imports, who writes states, goroutines
	go test ./internal/arch

.PHONY: check-proto
check-proto: ## buf: lint, format, and nothing broken since the main branch
	$(BUF) lint
	$(BUF) format -d --exit-code
	scripts/check-breaking

.PHONY: check-generated
check-generated: ## Is the generated code what make generate would write?
	scripts/check-generated

# Warnings only: below them, shellcheck suspects every text in single quotes that is meant for another shell.
.PHONY: check-scripts
check-scripts: ## shellcheck, where it is installed
	@if command -v shellcheck >/dev/null 2>&1; then set -x; shellcheck --severity=warning $(SCRIPTS); \
	else echo "shellcheck: skipped, not installed (apt-get install shellcheck)"; fi

.PHONY: generate
generate: ## Generate Go from the .proto files
	$(BUF) generate

.PHONY: fmt
fmt: ## Format Go and .proto files
	$(LINT) fmt
	$(BUF) format -w

.PHONY: clean
clean: ## Remove what make made here
	rm -rf bin coverage.out coverage.html

##@ Help

.PHONY: toolcheck toolcheck-build toolcheck-test toolcheck-check
toolcheck: toolcheck-check ## Is everything installed that is needed?
	@echo "toolcheck: nothing is missing"
toolcheck-build toolcheck-check:
	@scripts/toolcheck $(@:toolcheck-%=%)
toolcheck-test:
	@scripts/toolcheck $(if $(RACE),test,build)

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
