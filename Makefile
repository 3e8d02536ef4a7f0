# moec builds with Go alone. "make run" and "make test" are all that a fresh
# machine needs; what they fetch is Go modules.

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build run test check random fuzz clean

build:
	$(GO) build -trimpath -o bin/moec ./cmd/moec

# The main job: compile the example for four devices, run it, stream text.
run: build
	bin/moec compile examples/mixtral.moe --gpus 4 --checkpoint examples/tiny-mixtral -o bin/tiny-mixtral.plan
	bin/moec run bin/tiny-mixtral.plan --checkpoint examples/tiny-mixtral --prompt "ROMEO:" --max-tokens 200 --temperature 0.8 --top-p 0.95 --seed 7

test:
	$(GO) vet ./...
	$(GO) test ./...

# The longer checks: a clean build, goldens that rewriting leaves as they are,
# random programs on random placements, and a short run of every fuzz target.
check: run
	$(GO) test ./... -run Golden -rewrite >/dev/null 2>&1 || true
	git diff --exit-code -- '*testdata*' docs
	$(MAKE) random fuzz

# 2,000 random programs on random placements: the plan on the CPU backend gives
# the bits of the naive evaluator.
random:
	$(GO) test ./compiler -run TestRandomPrograms -timeout 40m -args -cases 2000

# Every fuzz target for FUZZTIME each, with the corpus in the repository.
FUZZTIME ?= 10s
fuzz:
	$(GO) run ./internal/fuzzall $(FUZZTIME)

clean:
	rm -rf bin

include cuda.mk
