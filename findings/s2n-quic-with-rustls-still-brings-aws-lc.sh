#!/usr/bin/env bash
# s2n-quic 1.83.0 (a QUIC stack): which cryptography a program gets that switches its default TLS off and asks for
# rustls alone.
#
# Guessed: With `default-features = false` and `provider-tls-rustls` the packets are sealed by the provider that rustls
#          is built with, so a program that uses rustls with ring everywhere needs nothing else.
# Seen:    aws-lc-rs, with the C library beneath it, is in the tree in any case: s2n-quic-crypto, which seals the
#          packets, needs it whatever TLS is chosen, and rustls is built with it, too. No feature takes it out.
#
# What follows: a program with s2n-quic beside ring has two cryptographic libraries in it, and rustls, which finds two
# providers then, panics wherever the process default is asked for and none was installed. Builds need a C compiler.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
command -v cargo >/dev/null || { echo "cargo is missing"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
echo 'fn main() {}' > src/main.rs
cat > Cargo.toml <<'TOML'
[package]
name = "tree"
version = "0.1.0"
edition = "2021"

[dependencies]
s2n-quic = { version = "=1.83.0", default-features = false, features = ["provider-tls-rustls"] }
TOML
cargo tree --quiet --edges normal --prefix none --format '{p}' | sed 's/ v.*//' | sort -u > crates
cargo tree --quiet --edges normal --prefix none --format '{p}' --invert aws-lc-rs --depth 1 | sed 1d | sed 's/ v.*//; s/ (\*)//' |
    grep . | sort -u > users
echo "aws-lc-rs is asked for by: $(tr '\n' ' ' < users)"
grep -qx aws-lc-sys crates || { echo "there is no C library in the tree any more"; exit 1; }
grep -qx s2n-quic-crypto users || { echo "s2n-quic-crypto does without aws-lc-rs now"; exit 1; }
