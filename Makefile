# The usual commands. None of them hides anything: each can be typed by hand.

.PHONY: help interop faults planted postgresql-versions fuzz wire-differential streaming-differential tools test test-quick demo dist bench budget fmt lint deny

comma := ,

help:
	@echo "make demo         the product does its main job on this machine (ONCE=1: end after the table)"
	@echo "make bench        our broker beside the NATS servers, about 50 min (BENCH=--quick, BENCH='--family store --rounds 3', BENCH=--help)"
	@echo "make dist         the broker as users get it: a small static program in target/dist (takes minutes)"
	@echo "make budget       instructions that a message costs, against those on record (needs valgrind)"
	@echo "make test         obtain what is missing, then run everything"
	@echo "make test-quick   format and unit tests, nothing but cargo"
	@echo "make lint         format, clippy      make deny   licences, duplicates, advisories"
	@echo "make fuzz         every fuzz target for a minute (SECONDS_EACH=60), from the inputs that are kept"
	@echo "make wire-differential  a million sessions against nats-server (SESSIONS=1000000)"
	@echo "make streaming-differential  20000 histories against nats-streaming-server (HISTORIES=20000)"
	@echo "make faults       10000 rounds of faults against brokers on PostgreSQL (ROUNDS=10000, SEED=n)"
	@echo "make planted      bugs planted in copies of the broker, each to be found by rounds of faults (BUGS='fence_missing ...')"
	@echo "make postgresql-versions  the store and its lock on PostgreSQL 12, 13, 14, 16 and 17"
	@echo "make interop      1000 histories each way of broker and nats-streaming-server on one database (INTEROP_HISTORIES=1000, FIRST=n)"
	@echo "make tools        obtain the real components that the tests run against"

# Everything that the tests run against: builds or installs what is missing.
tools:
	tests/tools/obtain

# All there is.
test: tools lint deny budget
	cargo build --workspace
	cargo test --workspace

# Without real components, under two minutes when warm.
test-quick: fmt
	cargo test --workspace --lib --bins

# The product does its main job on this machine; ONCE=1 ends with an exit code.
demo:
	cargo build --release --workspace --bins
	ONCE=$(ONCE) target/release/stanchion-demo

# Rates, processor time, memory and latency as ratios to nats-server, nats-streaming-server and bare statements; needs a machine that does
# nothing else.
bench:
	tests/tools/obtain nats postgresql
	$(MAKE) dist
	cargo build --release -p tests-bench --bin stanchion-bench
	target/release/stanchion-bench $(BENCH)

# The broker as users get it, in target/dist: one file that needs nothing else, not even a C library, and runs in an
# empty image. Identical functions are folded, relocations packed, tables for unwinding left out; random numbers
# come from the system call, since a static program cannot look whether the C library has it.
HOST := $(shell rustc --print host-tuple)
DIST_FLAGS := -C target-feature=+crt-static -C force-unwind-tables=no --cfg getrandom_backend="linux_getrandom" \
	$(addprefix -C link-arg=-Wl$(comma),--icf=all -z$(comma)pack-relative-relocs -z$(comma)keep-text-section-prefix \
	--no-eh-frame-hdr -T$(comma)deploy/no_unwinding.ld)
dist:
	RUSTFLAGS='$(DIST_FLAGS)' cargo build --profile dist --target $(HOST) -p broker-server
	install -D -t target/dist target/$(HOST)/dist/stanchion-broker

# The same in every run on every machine, so that a small loss shows at once.
budget:
	cargo build --release -p tests-bench --bin stanchion-budget
	target/release/stanchion-budget

fmt:
	cargo fmt --all --check

lint: fmt
	cargo clippy --workspace --all-targets -- -D warnings

# Advisories come from a database that is fetched; where that is refused, the rest still counts.
deny:
	tests/tools/obtain cargo_deny
	target/tools/bin/cargo-deny check bans licenses sources
	@if target/tools/bin/cargo-deny fetch db >target/tools/logs/advisories.log 2>&1; \
	then target/tools/bin/cargo-deny check --disable-fetch advisories; \
	else echo "deny: the advisory database cannot be fetched from here, so advisories are not checked"; fi

# Looks for input that breaks a law, each target for a while. What is found lies in tests/fuzz/libfuzzer/artifacts; new
# inputs that reach new code are kept below target/, from where a merge takes them into the corpus.
SECONDS_EACH ?= 60
FUZZ_TARGETS := $(notdir $(wildcard tests/fuzz/corpus/*))
fuzz:
	tests/tools/obtain cargo_fuzz
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p "target/fuzz/corpus/$$target" && \
		PATH="$$PWD/target/tools/bin:$$PATH" cargo fuzz run --fuzz-dir tests/fuzz/libfuzzer --target-dir target/fuzz \
			--sanitizer none "$$target" "target/fuzz/corpus/$$target" "tests/fuzz/corpus/$$target" \
			-- -max_total_time=$(SECONDS_EACH) -max_len=600 -print_final_stats=1 || exit 1; \
	done

# The broker and nats-server under generated sessions; FIRST=n begins at another one.
SESSIONS ?= 1000000
wire-differential:
	tests/tools/obtain nats
	cargo build --workspace
	SESSIONS=$(SESSIONS) cargo test -p tests --test wire_differential -- --nocapture broker_answers

# The broker and nats-streaming-server under random histories of clients; PROFILE=plain plays that profile alone, FIRST=n
# begins at another history.
HISTORIES ?= 20000
streaming-differential:
	tests/tools/obtain nats
	cargo build --workspace
	HISTORIES=$(HISTORIES) cargo test -p tests --test streaming_histories -- --nocapture broker_shows

# Faults against the broker on PostgreSQL, checked with what clients have seen; SEED=n begins at another round, RIGS=n plays so
# many side by side.
ROUNDS ?= 10000
SEED ?= 0
RIGS ?= 4
faults:
	tests/tools/obtain postgresql nats
	cargo build --workspace
	ROUNDS=$(ROUNDS) SEED=$(SEED) RIGS=$(RIGS) cargo test -p tests --test store_faults -- --nocapture through_every

# The broker and nats-streaming-server by turns on one database, checked with what clients have seen; FIRST=n begins at another
# history, SIDE_BY_SIDE=n plays so many at a time, each way.
INTEROP_HISTORIES ?= 1000
interop:
	tests/tools/obtain postgresql nats
	cargo build --workspace
	HISTORIES=$(INTEROP_HISTORIES) cargo test -p tests --test store_interop -- --nocapture other_way_round

# Bugs planted in copies of the broker, one at a time: rounds of faults must find each of them.
planted:
	tests/tools/obtain postgresql nats
	tests/tools/planted $(BUGS)

# The store, and the lock between servers, on the releases of PostgreSQL that are not the machine's own.
POSTGRESQL_VERSIONS ?= 12 13 14 16 17
postgresql-versions:
	tests/tools/obtain postgresql postgresql_versions pgbouncer nats
	cargo build --workspace
	@for version in $(POSTGRESQL_VERSIONS); do \
		bin="$$PWD/target/tools/postgresql-versions/postgresql-$$version/native/bin"; \
		"$$bin/postgres" --version && \
		PATH="$$bin:$$PATH" cargo test -p broker-store --tests && \
		PATH="$$bin:$$PATH" cargo test -p tests --test streaming_lock --test streaming_lock_watch || exit 1; \
	done
