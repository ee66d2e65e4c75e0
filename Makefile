# Thin names over plain commands. `make help` lists them.
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/holdfast-fleet/holdfast/internal/buildinfo.version=$(VERSION)
# What goes into a go build besides Go files is nothing; go itself knows what is up to date.
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/holdfast, bin/holdfast-hub, bin/holdfast-edge
	@mkdir -p bin
	$(GOBUILD) -o bin/holdfast ./cmd/holdfast
	$(GOBUILD) -o bin/holdfast-hub ./cmd/hub
	$(GOBUILD) -o bin/holdfast-edge ./cmd/edge

.PHONY: controlplane
controlplane: ## bin/controlplane: a real Kubernetes control plane (about 6 minutes, once a machine)
	@test/controlplane/build.sh bin/controlplane

.PHONY: demo
demo: build controlplane ## the main job: a hub, three sites, a cut link, an update (KEEP=1 leaves it running, BUNDLE=dir takes your manifests)
	@go run ./test/demo

.PHONY: test
test: build controlplane ## every test (P=1 runs one package at a time, for small machines)
	go vet ./...
	go test -count=1 -timeout 40m $(if $(P),-p $(P)) ./...

.PHONY: short
short: ## the tests that need no cluster and no minutes
	go test -short ./pkg/... ./internal/... ./cmd/...

.PHONY: e2e
e2e: build controlplane ## only the end-to-end tests
	go test -timeout 40m -v ./test/e2e/...

.PHONY: sim
sim: ## the fleet simulation; SEEDS=10000 for more
	go test ./internal/sim -run Fleet -v -seeds $(or $(SEEDS),2000)

.PHONY: powercut
powercut: ## power cuts under a writing store, on a file system of its own; N=200 for more
	HOLDFAST_CUTS=$(or $(N),50) go test -count=1 ./internal/store -run TestF04_PowerCut -v -timeout 60m

.PHONY: mutants
mutants: ## prove that the tests notice each deliberate bug of test/mutants
	go run ./test/mutants

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@test/fuzz.sh $(or $(FUZZTIME),10s)

.PHONY: bench
bench: build controlplane ## measure all, print tables, write bench/out/main.json, edge.json and fleet.json (half an hour)
	@mkdir -p bench/out
	go run ./test/bench -out bench/out/main.json
	$(MAKE) bench-edge bench-scale

.PHONY: bench-edge
bench-edge: build ## a site's line and disk: idle, catching up, half a year away (6 minutes); writes bench/out/edge.json
	@mkdir -p bench/out
	go run ./test/bench/edge -out bench/out/edge.json

.PHONY: bench-scale
bench-scale: build ## one hub and 10,000 light sites: a few minutes, about 3 GiB; writes bench/out/fleet.json
	@mkdir -p bench/out
	go run ./test/bench/scale -out bench/out/fleet.json

.PHONY: lint
lint: ## vet, gofmt and the rules of .golangci.yaml
	@test -z "$$(gofmt -l cmd pkg internal test)" || { gofmt -l cmd pkg internal test; echo 'run gofmt -w on these'; exit 1; }
	go vet ./...
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run

.PHONY: vulncheck
vulncheck: ## known vulnerabilities that the programs call (needs ../shared/vulndb or the network)
	go run ./test/supply

.PHONY: sbom
sbom: build ## bin/*.cdx.json: what the programs are made of (CycloneDX)
	@for p in holdfast holdfast-hub holdfast-edge; do \
		go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0 bin -json -licenses=false -version $(VERSION) -output bin/$$p.cdx.json bin/$$p; done

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin bench/out
