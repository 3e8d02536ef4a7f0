# moec builds with Go alone. "make run" and "make test" are all that a fresh
# machine needs; what they fetch is Go modules.

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build run test check goldens random mutants fuzz bench clean

build:
	$(GO) build -trimpath -o bin/moec ./cmd/moec

# The main job: compile the example for four devices, run it, stream text.
run: build
	bin/moec compile examples/mixtral.moe --gpus 4 --strategy ep --checkpoint examples/tiny-mixtral -o bin/tiny-mixtral.plan
	bin/moec run bin/tiny-mixtral.plan --checkpoint examples/tiny-mixtral --prompt "ROMEO:" --max-tokens 200 --temperature 0.8 --top-p 0.95 --seed 7

test:
	$(GO) vet ./...
	$(GO) test ./...

# The longer checks: the main job, goldens that rewriting leaves as they are,
# random programs on random placements, and a short run of every fuzz target.
check: run goldens random fuzz

# Write all goldens again; fails if that changes any.
goldens:
	$(GO) test -count=1 $$(git grep -l '"rewrite", false' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|') -args -rewrite
	git diff --exit-code -- '*testdata*'

# 2,000 random programs on random placements: the plan on the CPU backend gives
# the bits of the naive evaluator.
random:
	$(GO) test ./compiler -run TestRandomPrograms -timeout 40m -args -cases 2000

# 100,000 damaged plans: which rule refuses which, and whether any that is
# accepted computes something else.
mutants:
	$(GO) test ./planner/mutate -run TestMutants -v -timeout 60m -args -mutants 100000 -programs 120

# Every fuzz target for FUZZTIME each, with the corpus in the repository.
FUZZTIME ?= 10s
fuzz:
	$(GO) run ./internal/fuzzall $(FUZZTIME)

# Whole commands on one core: times and memory. Never fails for being slow.
bench: build
	$(GO) run ./internal/bench

clean:
	rm -rf bin

include cuda.mk
