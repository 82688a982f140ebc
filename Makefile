# Shortcuts. Each target is a command that runs without make too, and nothing else
# needs them: README's two commands are all the set-up there is.

SEED     ?= $(shell date +%s)
DURATION ?= 3m
N        ?= 1000000
BUG      ?=
ARGS     ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: test
test: ## everything that is quick
	go test ./...

.PHONY: ci
ci: ## what must hold before a change lands, up to half an hour
	.ci/run

.PHONY: model
model: ## every state of the protocol at small sizes, and each planted bug with its trace
	go run ./internal/appendsink/model
	go run ./internal/appendsink/model -bugs

.PHONY: model-long
model-long: ## the same at larger sizes, minutes
	OSSUARY_LONG=1 go test -count=1 -v -timeout 60m ./internal/appendsink/model

.PHONY: nth-long
nth-long: ## every pair of operations fails in every pair of ways, up to half an hour
	OSSUARY_LONG=1 go test -count=1 -v -timeout 90m -run TestNthOperation ./internal/appendsink

.PHONY: schedules-long
schedules-long: ## N random schedules of the whole path, a million in about two hours
	go test -count=1 -v -timeout 0 -run 'TestSchedules$$' ./internal/service -schedules $(N) -shards 2

.PHONY: torture
torture: ## real processes are killed, paused and cut off: DURATION, SEED
	go run ./torture -seed $(SEED) -duration $(DURATION) -world 50s

.PHONY: torture-long
torture-long: ## until 1,000 kills, 300 zombies and 100 killed leaders, over an hour
	go run ./torture -seed $(SEED) -duration 70m -until kills=1000,zombies=300,leaders=100

.PHONY: mutants
mutants: ## each safety rule removed in turn, about ten minutes
	go run ./mutants

.PHONY: bug
bug: ## undo one fix, and see the test that notices: BUG=name, as in docs/PROOF.md
	@test -n '$(BUG)' || { echo 'make bug BUG=name; the names stand in docs/PROOF.md' >&2; exit 2; }
	go run ./mutants -run '^$(BUG)$$'

.PHONY: fuzz
fuzz: ## every fuzz target for a minute, about forty minutes
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null | sed 's/^func //' | while read -r target; do \
			echo "$$pkg $$target"; go test "$$pkg" -run '^$$' -fuzz "^$$target\$$" -fuzztime 1m || exit 1; \
		done || exit 1; \
	done

.PHONY: release
release: ## binaries for all systems, deb, rpm, bill of materials, checksums, in dist/
	go -C tools/release run .

.PHONY: snapshot
snapshot: ## the same with what is not committed yet, for Linux on amd64 only
	go -C tools/release run . -modified -targets linux/amd64

.PHONY: bench
bench: ## how near Ossuary comes to what JetStream can deliver, about twelve minutes; ARGS=--help
	go run -C bench . $(ARGS)
