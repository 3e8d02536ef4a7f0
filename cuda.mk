# The CUDA side of moec. The Makefile includes this file; the targets also work
# with "make -f cuda.mk TARGET".
#
#   cuda-toolkit    nvcc and CUDA's headers in .cache/cuda, from Python packages
#   build-cuda      bin/moec that runs with and without an NVIDIA driver
#   kernels         compiles every kernel for each architecture
#   test-cuda-stub  the CUDA layer's tests against a driver without a GPU
#   build-cuda-tests
#                   bin/cuda-driver.test, the same tests as a program; on a machine
#                   with a GPU, run in runtime/cuda/driver, it tests the hardware
#
# A toolkit in CUDA_HOME, if there is one, serves instead of the packages.

GO     ?= go
PYTHON ?= python3
CUDACC ?= cc

# The package with the command's main function.
MOEC_MAIN ?= ./cmd/moec

# These packages hold a compiler that needs no installation (271 MB unpacked).
CUDA_VERSION  := 13.0.88
CUDA_PACKAGES := \
	nvidia-cuda-nvcc==$(CUDA_VERSION) \
	nvidia-cuda-crt==$(CUDA_VERSION) \
	nvidia-nvvm==$(CUDA_VERSION) \
	nvidia-cuda-runtime==$(CUDA_VERSION) \
	nvidia-cuda-cccl==13.0.85

CUDA_CACHE := .cache/cuda
CUDA_STAMP := $(CUDA_CACHE)/installed-$(CUDA_VERSION)

ifneq ($(and $(CUDA_HOME),$(wildcard $(CUDA_HOME)/include/cuda.h)),)
CUDA_ROOT   := $(CUDA_HOME)
CUDA_HEADER :=
else
CUDA_ROOT   := $(CURDIR)/$(CUDA_CACHE)/nvidia/cu13
CUDA_HEADER := $(CUDA_STAMP)
endif

CUDA_DRIVER := runtime/cuda/driver
CUDA_LINK   := .cache/cuda-link
CUDA_STUB   := .cache/cuda-stub/libcuda.so.1

# Go's build cache sees neither headers outside a package nor archives; a hash
# of them among the flags makes it build again when they change.
CUDA_INPUTS = $(shell cat $(CUDA_DRIVER)/compat/*.h $(CUDA_DRIVER)/trampoline/* | cksum | cut -d ' ' -f 1)

# The compat directory and the archive must come before anything of the system.
CUDA_GO = CGO_ENABLED=1 \
	CGO_CFLAGS="-O2 -DMOEC_CUDA_INPUTS=$(CUDA_INPUTS) -I$(CURDIR)/$(CUDA_DRIVER)/compat -I$(CUDA_ROOT)/include" \
	CGO_LDFLAGS="-L$(CURDIR)/$(CUDA_LINK)" \
	$(GO)

.PHONY: cuda-toolkit build-cuda build-cuda-tests build-gpucheck kernels test-cuda-stub

cuda-toolkit: $(CUDA_STAMP)

# pip installs into a directory of this run, which takes its place only when it
# is complete: another make may be doing the same.
$(CUDA_STAMP):
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { \
		echo "cuda-toolkit: need $(PYTHON) with pip to install the CUDA compiler packages; install python3-pip, or set CUDA_HOME to a CUDA toolkit" >&2; exit 1; }
	@echo "installing nvcc $(CUDA_VERSION) into $(CUDA_CACHE)"
	@new=$(CUDA_CACHE).new.$$$$; mkdir -p $$new; trap 'rm -rf '$$new EXIT; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--no-deps --no-compile --only-binary=:all: --target $$new $(CUDA_PACKAGES) && \
	touch $$new/$(notdir $(CUDA_STAMP)) && \
	{ test -e $@ || { rm -rf $(CUDA_CACHE) && mv $$new $(CUDA_CACHE); }; }

# What -lcuda means here: see trampoline.c.
$(CUDA_LINK)/libcuda.a: $(wildcard $(CUDA_DRIVER)/trampoline/*)
	mkdir -p $(CUDA_LINK)
	$(CUDACC) -O2 -Wall -Wextra -Werror -fPIC -c -o $(CUDA_LINK)/trampoline.o $(CUDA_DRIVER)/trampoline/trampoline.c
	rm -f $@
	ar rcs $@ $(CUDA_LINK)/trampoline.o

$(CUDA_STUB): $(CUDA_DRIVER)/stub/libcuda.c $(CUDA_HEADER)
	mkdir -p $(dir $(CUDA_STUB))
	$(CUDACC) -O1 -g -Wall -Wextra -Werror -fPIC -shared -pthread -I$(CUDA_ROOT)/include -o $@ $<

build-cuda: $(CUDA_HEADER) $(CUDA_LINK)/libcuda.a
	mkdir -p bin
	$(CUDA_GO) build -tags cuda -o bin/moec $(MOEC_MAIN)

build-cuda-tests: $(CUDA_HEADER) $(CUDA_LINK)/libcuda.a
	mkdir -p bin
	$(CUDA_GO) test -c -tags cuda -o bin/cuda-driver.test ./$(CUDA_DRIVER)

# Every kernel of the table, compiled for each architecture: no warnings, no
# local memory.
kernels: $(CUDA_HEADER)
	MOEC_KERNELS=1 CUDA_HOME=$(CUDA_ROOT) $(GO) test -count=1 -timeout 25m ./codegen -run Real -v

# bin/gpucheck compares CPU and GPU; run it in the repository's root on a machine
# with a GPU and nvcc.
build-gpucheck: $(CUDA_HEADER) $(CUDA_LINK)/libcuda.a
	mkdir -p bin
	$(CUDA_GO) build -tags cuda -o bin/gpucheck ./internal/gpucheck

# The tests take the stub for the driver; those that need a GPU skip themselves.
test-cuda-stub: $(CUDA_STUB) $(CUDA_LINK)/libcuda.a
	$(CUDA_GO) vet -tags cuda ./runtime/cuda/...
	MOEC_LIBCUDA=$(CURDIR)/$(CUDA_STUB) CUDA_HOME=$(CUDA_ROOT) $(CUDA_GO) test -p 1 -tags cuda ./runtime/cuda/...
