# Short names for what people do by hand.

# List them.
default:
    @just --list

# Format all code.
fmt:
    cargo fmt --all

# What clippy says; a warning is an error.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Everything that must pass.
test:
    scripts/test

# All modes in the mock world.
run *ARGS:
    cargo run --release --locked -- run {{ARGS}}

# All modes on a real LiteLLM, set up in the cache.
run-litellm *ARGS:
    cargo run --release --locked -- run --gateway litellm --install-litellm {{ARGS}}

# The mock gateway beside a real LiteLLM (--full: the whole matrix; --litellm VERSION: another version).
differential *ARGS:
    scripts/differential {{ARGS}}

# The conformance tests of the mock cluster against a live one (--kubeconfig FILE --context NAME --namespace NS).
conformance *ARGS:
    scripts/conformance {{ARGS}}

# Kills runs at random instants, 20 at a time, and looks what is left after somebody has restored; a quarter of an hour.
kill-bench KILLS='300' SEED='11':
    rm -f target/kill-bench.txt
    FAILOVER_TEST_KILLS={{KILLS}} HARNESS_TEST_SEED={{SEED}} FAILOVER_TEST_LANES=20 \
        FAILOVER_TEST_FIGURES="$PWD/target/kill-bench.txt" \
        cargo test --release --locked -p harness --test survival nothing_is_left_of_runs_that_are_killed
    cat target/kill-bench.txt

# Fails each kind of API call of a run, and of a restore after a kill, in each way, 12 at a time (0: all of them, which takes
# hours; two cores carry no more at a time).
trouble-matrix CASES='0' SEED='7':
    rm -f target/trouble-matrix.txt
    FAILOVER_TEST_TROUBLES={{CASES}} HARNESS_TEST_SEED={{SEED}} FAILOVER_TEST_LANES=12 \
        FAILOVER_TEST_FIGURES="$PWD/target/trouble-matrix.txt" \
        cargo test --release --locked -p harness --test survival whose_calls_fail -- --test-threads=1
    cat target/trouble-matrix.txt

# All modes with LiteLLM's own defaults: they fail NFR123 (exit code 1).
stock *ARGS:
    cargo run --release --locked -- run --litellm-config mocks/litellm/stock.yaml {{ARGS}}

# Judge runs again from their journals (default: the newest).
report *RUNS:
    cargo run --release --locked -- report {{RUNS}}

# Write schemas/ again from the types.
schema:
    UPDATE_SCHEMAS=1 cargo test -p harness --test input --test report schema

# Licences, sources and duplicates of the dependencies; needs cargo-deny (scripts/test brings its own).
deny:
    cargo deny --workspace --locked check bans licenses sources

# Serve the mock world until interrupted.
mock *ARGS:
    cargo run --release --locked -- mock {{ARGS}}

# The image for a cluster: a static program and nothing else; prints its size.
image *ARGS:
    scripts/image {{ARGS}}
