# bindery. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS    := $(CURDIR)/.tools/bin
GO_DIRS  := ./pkg/... ./proto/... ./services/...
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
FUZZTIME ?= 10s
BASE     ?= main

THIRD_PARTY := proto/third_party

export PATH := $(TOOLS):$(PATH)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

build: ## build the binary into bin/
	go build -ldflags '$(LDFLAGS)' -o bin/bindery ./services/cmd/bindery

run: build ## start everything over SQLite with a demo world, and print what to try
	bin/bindery serve all --demo

migrate: build ## bring the schemas up to date (DATABASE_URL or the data directory)
	bin/bindery migrate $(if $(DATABASE_URL),--database-url '$(DATABASE_URL)')

test: $(TOOLS)/gotestsum postgres ## run every test, PostgreSQL included, and print the counts
	BINDERY_REQUIRE_DB=1 gotestsum --format pkgname-and-test-fails -- -shuffle=on -timeout 45m $(GO_DIRS)

test-short: ## run the tests that need no database server and no other program
	go test -short $(GO_DIRS)

race: $(TOOLS)/gotestsum postgres ## run the concurrent packages under the race detector
	BINDERY_REQUIRE_DB=1 gotestsum --format pkgname-and-test-fails -- -race -short -timeout 45m ./pkg/... ./services/accessbindings/... ./services/identity/... ./services/resourcemanager/... ./services/gateway/...

crash: postgres ## kill processes, PostgreSQL and connections under load, hundreds of times (about an hour)
	BINDERY_REQUIRE_DB=1 BINDERY_CRASH_ROUNDS=200 BINDERY_CRASH_RESTARTS=60 BINDERY_CRASH_CUTS=200 \
		go test -v -timeout 3h -run '^(TestKill|TestKillOne|TestStop|TestDatabaseRestarts|TestCutConnections)$$' ./services/e2e/

faults: postgres ## take 100,000 roles away by three replicas while they, PostgreSQL and the connections in between fail
	BINDERY_REQUIRE_DB=1 BINDERY_FAULT_PAIRS=100000 BINDERY_FAULT_ROUNDS=500 \
		go test -v -count=1 -timeout 8h -run '^TestReplicasUnderFaults$$' ./services/e2e/

once: postgres ## send 10,000 requests ten times each, at once, with their idempotency keys
	BINDERY_REQUIRE_DB=1 BINDERY_IDEMPOTENCY_REQUESTS=10000 go test -v -count=1 -timeout 1h -run '^TestIdempotencyKeys$$' ./services/e2e/

equal: postgres ## compare a million answers about access with a second reading of the rules, beside writers (about 20 minutes)
	BINDERY_REQUIRE_DB=1 BINDERY_EQUAL=500000 go test -v -count=1 -timeout 3h -run '^TestEX10_EveryAnswerEqual$$' ./services/accessbindings/

fuzz: ## fuzz every parser and the checker for FUZZTIME each
	.ci/fuzz $(FUZZTIME)

bench: postgres ## measure the checker, the loading of a million bindings, Authorize against a bare gRPC echo, requests, and usage
	go test -run '^$$' -bench 'Decide|Extremes|Apply' -benchmem -timeout 30m ./pkg/checker/
	BINDERY_REQUIRE_DB=1 go test -run '^$$' -bench '^BenchmarkLoad$$' -benchtime 3x -timeout 30m ./services/accessbindings/
	go test -run '^$$' -bench 'Authorize' -benchtime 1x -timeout 30m ./services/e2e/
	go test -run '^$$' -bench Writes -benchtime 1x -timeout 30m ./services/e2e/
	go test -run '^$$' -bench Overload -benchtime 1x -timeout 30m ./services/e2e/
	go test -run '^$$' -bench . -timeout 30m ./pkg/request/
	go test -run '^$$' -bench Decide -benchtime 1x ./services/marketplacerequests/
	go test -run '^$$' -bench 'CheckAccess|Pending' ./services/marketplacerequests/
	BINDERY_REQUIRE_DB=1 go test -run '^$$' -bench Usage -benchtime 3x -timeout 30m ./services/partner/

postgres: # find the PostgreSQL server binaries, or install them, and say how
	@.ci/postgres

tools: $(TOOLS)/.stamp $(TOOLS)/golangci-lint $(TOOLS)/gotestsum ## install the pinned tools into .tools/bin

$(TOOLS)/.stamp: proto/tools/go.mod
	mkdir -p $(TOOLS)
	GOWORK=off GOBIN=$(TOOLS) go -C proto/tools install tool
	touch $@

$(TOOLS)/golangci-lint: .ci/tools/go.mod
	GOWORK=off GOBIN=$(TOOLS) go -C .ci/tools install github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	touch $@

$(TOOLS)/gotestsum: .ci/tools/go.mod
	GOWORK=off GOBIN=$(TOOLS) go -C .ci/tools install gotest.tools/gotestsum
	touch $@

fmt: $(TOOLS)/.stamp ## format Go and proto sources
	gofmt -w $$(git ls-files '*.go' | grep -v proto/gen/)
	buf format -w --path proto/bindery --path proto/yandex

gen: $(TOOLS)/.stamp $(THIRD_PARTY) ## rebuild proto/gen from the .proto files, offline
	buf generate

gen-check: gen ## fail when the committed proto/gen is not what the .proto files give
	@test -z "$$(git status --porcelain -- proto/gen)" || { git status --short -- proto/gen; git diff --stat -- proto/gen; exit 1; }

# buf reads google/api, google/rpc and buf/validate from here; they are printed
# from the Go modules that carry them.
$(THIRD_PARTY): proto/tools/go.mod proto/tools/thirdparty/main.go
	GOWORK=off go -C proto/tools run ./thirdparty ../third_party

buf-lint: $(TOOLS)/.stamp $(THIRD_PARTY) ## lint the .proto files and check their format
	buf lint
	buf format --diff --exit-code --path proto/bindery --path proto/yandex

buf-breaking: $(TOOLS)/.stamp $(THIRD_PARTY) ## fail when the .proto files break what the clients of BASE rely on
	rm -rf .tools/base && mkdir -p .tools/base
	git archive $(BASE) -- buf.yaml proto | tar -x -C .tools/base --exclude proto/gen
	cp -r $(THIRD_PARTY) .tools/base/proto/
	buf breaking --against .tools/base

lint: $(TOOLS)/golangci-lint ## lint the Go sources
	for m in pkg proto services; do (cd $$m && golangci-lint run --allow-parallel-runners ./...) || exit 1; done

ci: ## everything that must pass before a change lands
	.ci/run

.PHONY: help build run migrate test test-short race crash faults once equal fuzz bench postgres tools fmt lint gen gen-check buf-lint buf-breaking ci
