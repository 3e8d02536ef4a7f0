# moec builds with Go alone. "make run" and "make test" are all that a fresh
# machine needs; what they fetch is Go modules.

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build run test fuzz lint clean

build:
	$(GO) build -trimpath -o bin/moec ./cmd/moec

# The main job: compile the example for four devices, run it, stream text.
run: build
	bin/moec compile examples/mixtral.moe --gpus 4 --checkpoint examples/tiny-mixtral -o bin/tiny-mixtral.plan
	bin/moec run bin/tiny-mixtral.plan --checkpoint examples/tiny-mixtral --prompt "ROMEO:" --max-tokens 200 --temperature 0.8 --top-p 0.95 --seed 7

test:
	$(GO) vet ./...
	$(GO) test ./...

clean:
	rm -rf bin

include cuda.mk
