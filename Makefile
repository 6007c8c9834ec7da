# Every target is a line or two over cargo or python. Built in release, so that demo and test share what is compiled.
PYTHON ?= python3
PREFIX ?= /usr/local
OFFICIAL = target/python/official
EARS = target/python/ears
PIPECAT = target/python/pipecat
LIVEKIT = target/python/livekit
CONTRACT = target/python/contract
CMAKE = target/python/cmake
PAGE = target/python/page
FULL = target/golden-full
FUZZ_SECONDS ?= 600
LIBCLANG = target/python/libclang
# build.rs looks here too, where CUDA_HOME and PATH have no nvcc.
NVCC = target/cuda

.PHONY: help demo test install header cmake nvcc kernels gpu gpu-pack bindings loom soak soak-c fuzz golden golden-full listen peers pipecat livekit bridge serve clients contract opus page load
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## build, speak a sentence with the embedded model to hello.wav, print the figures
	cargo build --release --locked
	target/release/qwentts say "Hello, this is qwentts speaking." -o hello.wav

# On x86-64 Linux with every kernel compiled for every promised architecture, which is part of the build.
test: $(if $(filter x86_64Linux,$(shell uname -m)$(shell uname -s)),$(NVCC)/ready) ## what CI runs: format, lints, tests
	cargo fmt --check --all
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps
	cargo test --release --locked --workspace
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.platform != "linux")'; then \
	  $(MAKE) pipecat livekit clients contract BUILD="cargo build --release --locked --workspace" QWENTTS_TEST_PATIENCE=30; \
	else \
	  echo "make test: the tests of the Pipecat service, the LiveKit plugin and the server's clients were NOT RUN: they need Linux and Python 3.11" >&2; \
	fi

install: ## the library for C and C++: PREFIX=/usr/local, DESTDIR for packagers; header, shared and static, pkg-config, CMake
	cargo build --release --locked --lib
	sh tools/install.sh target/release $(PREFIX)

header: ## write include/qwentts.h from src/ffi
	UPDATE=1 cargo test --release --locked --test generated the_c_header

cmake: ## build ffi_examples/cmake against an installed library; needs cmake
	cargo test --release --locked --test c_api -- --ignored cmake

nvcc: $(NVCC)/ready ## fetch a CUDA compiler (270 MB, x86-64 Linux) for builds on a machine without one

kernels: $(NVCC)/ready ## compile every kernel for every promised architecture, timed; doctor says which
	rm -rf target/kernels
	cargo check --release --locked --no-default-features --features cuda --target-dir target/kernels
	cat target/kernels/release/build/qwentts-*/output | grep fatbin

gpu: ## what needs an NVIDIA GPU: the driver's floor, each kernel against its twin, speech against the CPU's, the goldens
	cargo test --release --locked --lib -- --ignored --nocapture --test-threads 1 driver:: engine::twins::
	cargo test --release --locked --test gpu -- --ignored --nocapture --test-threads 1 --skip full_size
	QWENTTS_TEST_DEVICE=cuda:0 cargo test --release --locked --test golden --test streaming --test live --test engine --test voices

gpu-pack: ## the same as binaries in target/gpu, for a machine with a GPU and no cargo: tools/gpu.py run there
	$(PYTHON) tools/gpu.py pack

bindings: $(NVCC)/ready $(LIBCLANG)/ready ## compare the committed bindings with cuda.h and cuda/args.h; UPDATE=1 writes them
	LIBCLANG_PATH=$$(dirname $$(find $(CURDIR)/$(LIBCLANG) -name 'libclang.so')) CUDA_INCLUDE=$(CURDIR)/$(NVCC)/nvidia/cu13/include \
		cargo test --release --locked --no-default-features --test generated -- --ignored

loom: ## look at every order of events between a stream's caller and the engine's worker; minutes
	RUSTFLAGS="--cfg qwentts_loom" cargo test --release --locked --target-dir target/loom --lib engine::orders -- --nocapture --test-threads 1

ASAN = RUSTFLAGS=-Zsanitizer=address cargo +nightly test --release --locked --no-default-features --features demo \
	  --target x86_64-unknown-linux-gnu --target-dir target/soak

soak: ## storm the engine for ten minutes under AddressSanitizer (nightly), then soak-c; SOAK_SECONDS=60 for less
	$(ASAN) --test soak -- --ignored --nocapture
	$(MAKE) soak-c

soak-c: ## the C tests and ten minutes of a C storm, both sides under AddressSanitizer (nightly); some of it under valgrind's helgrind
	$(ASAN) --test c_api -- --include-ignored --nocapture every_misuse closes_cancels many_threads voices_of address_sanitizer
	@if command -v valgrind > /dev/null; then \
	  cargo test --release --locked --test c_api -- --ignored --nocapture helgrind; \
	else \
	  echo "make soak-c: NOT RUN under helgrind, since there is no valgrind here" >&2; exit 1; \
	fi

golden: $(OFFICIAL)/ready ## record the goldens of tests/golden again from the official package
	for verb in tokenizer tiny voices demo; do $(OFFICIAL)/bin/python tests/golden/record.py $$verb || exit; done

golden-full: $(OFFICIAL)/ready ## record full-size cases and voices (0.6B, seeded) and compare with them; takes minutes and gigabytes, not in CI
	$(OFFICIAL)/bin/python tests/golden/record.py full full-0b6-base $(FULL)
	QWENTTS_GOLDEN_FULL=$(CURDIR)/$(FULL) cargo test --release --locked --test golden --test voices at_full_size_too -- --ignored --nocapture

listen: $(EARS)/ready $(OFFICIAL)/ready $(PIPECAT)/ready ## speak 198 held-out sentences, let Whisper judge, compare with the official package; LISTEN="--limit 20 --voice rms" for less
	cargo build --release --locked
	$(EARS)/bin/python tools/listen.py --official $(LISTEN)
	QWENTTS_EARS=$(CURDIR)/$(EARS)/bin/python $(PIPECAT_TESTS) -p test_chain.py

peers: $(if $(findstring --official,$(PEERS)),$(OFFICIAL)/ready) ## time others on this machine beside ours, a table; PEERS="-m DIR --official --faster --url NAME=URL" says which
	cargo build --release --locked
	$(PYTHON) tools/peers.py --self-check
	$(PYTHON) tools/peers.py $(PEERS)

# Bounds on time are for a quiet machine; with QWENTTS_TEST_PATIENCE=30 they catch what hangs, and nothing that is slow.
export QWENTTS_TEST_PATIENCE ?= 1
QUIETLY = -W ignore::DeprecationWarning -m unittest discover -s
PIPECAT_TESTS = PYTHONPATH=ffi_examples/python:ffi_examples/python/tests:ffi_examples/pipecat $(PIPECAT)/bin/python $(QUIETLY) ffi_examples/pipecat/tests

pipecat: $(PIPECAT)/ready ## test the Pipecat service with the embedded model; installs 0.5 GB once, then 80 s
	$(or $(BUILD),cargo build --release --locked --lib)
	$(PIPECAT_TESTS)

livekit: $(LIVEKIT)/ready ## test the LiveKit plugin with the embedded model and a scripted agent; installs 0.4 GB once, then 15 s
	$(or $(BUILD),cargo build --release --locked --lib)
	PYTHONPATH=ffi_examples/python:ffi_examples/python/tests:ffi_examples/livekit $(LIVEKIT)/bin/python $(QUIETLY) ffi_examples/livekit/tests

bridge: ## how long samples that are ready wait until Python has them, by event handle, callback and read; a table
	cargo build --release --locked --lib
	$(PYTHON) tools/bridge.py

SERVER = $(CURDIR)/target/release/qwentts-server

serve: ## the server and its page on loopback, with the embedded model; SERVE="--port 9000 --model DIR" for more
	cargo run --release --locked -p qwentts-server -- $(SERVE)

clients: $(PIPECAT)/ready ## the server with the openai package and with Pipecat's own OpenAI service
	$(or $(BUILD),cargo build --release --locked -p qwentts-server)
	QWENTTS_SERVER=$(SERVER) $(PIPECAT)/bin/python $(QUIETLY) server/tests -p clients.py

contract: $(CONTRACT)/ready ## the server against its own description, by schemathesis
	$(or $(BUILD),cargo build --release --locked -p qwentts-server)
	QWENTTS_SERVER=$(SERVER) $(CONTRACT)/bin/python server/tests/contract.py

opus: $(CMAKE)/ready ## the server with response_format "opus": fetches cmake, builds libopus, tests it
	PATH=$(CURDIR)/$(CMAKE)/bin:$$PATH cargo test --release --locked -p qwentts-server --features opus --lib --test speech

page: $(PAGE)/ready ## the page in headless Chromium (on Debian: apt-get install chromium), by Playwright; UPDATE=1 writes docs/page-*.png
	cargo build --release --locked -p qwentts-server
	QWENTTS_SERVER=$(SERVER) $(PAGE)/bin/python $(QUIETLY) server/tests -p page.py

load: ## ten minutes of more than the server can bear, a thousand clients that vanish, slow readers; LOAD_SECONDS=60 for less
	cargo test --release --locked -p qwentts-server --test load -- --ignored --nocapture

fuzz: ## each fuzz target for FUZZ_SECONDS (600), one after another; needs nightly and cargo-fuzz, says how to get them
	sh fuzz/run.sh $(FUZZ_SECONDS)

$(NVCC)/ready: tools/requirements-nvcc.txt
	rm -rf $(NVCC)
	$(PYTHON) -m pip install --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --target $(NVCC) -r $<
	touch cuda $@ # cargo watches the first: the next build looks for nvcc again

$(LIBCLANG)/ready: tools/requirements-bindings.txt
$(OFFICIAL)/ready: tests/golden/requirements.txt
$(EARS)/ready: tools/requirements-ears.txt
$(PIPECAT)/ready: ffi_examples/pipecat/requirements.txt
$(LIVEKIT)/ready: ffi_examples/livekit/requirements.txt
$(CMAKE)/ready: tools/requirements-cmake.txt
$(CONTRACT)/ready: server/tests/requirements-contract.txt
$(PAGE)/ready: server/tests/requirements-page.txt
target/python/%/ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --disable-pip-version-check -r $<
	touch $@
