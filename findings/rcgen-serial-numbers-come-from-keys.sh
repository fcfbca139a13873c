#!/usr/bin/env bash
# rcgen 0.14.10 (makes X.509 certificates): what serial number a certificate gets that was given none, and what a
# certificate store makes of two of them (NSS 3.87, of Debian 12: what Firefox and Chromium on Linux build on).
#
# Guessed: a random serial number for each certificate, as RFC 5280 (4.1.2.2) wants issuer and serial to be unique.
# Seen:    The serial number is computed from the public key alone. A certificate that is renewed for the same key, by
#          the same authority, has the serial number of the one that it replaces, whatever else changes: name, times.
#          NSS then takes the renewed certificate for the old one: it refuses to add it
#          (SEC_ERROR_REUSED_ISSUER_AND_SERIAL). OpenSSL accepts both. A list of withdrawn certificates, which
#          names them by their serial numbers, would withdraw the renewed one together with the old one.
#
# What follows: set `CertificateParams::serial_number` yourself, at random, or make a new key with each renewal.
#
# Needs cargo, openssl and certutil (Debian: libnss3-tools). Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
for tool in cargo openssl certutil; do
    command -v "$tool" >/dev/null || { echo "$tool is missing"; exit 1; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "serials"
version = "0.1.0"
edition = "2021"

[dependencies]
rcgen = { version = "=0.14.10", default-features = false, features = ["crypto", "pem", "ring"] }
TOML
cat > src/main.rs <<'RUST'
use rcgen::{date_time_ymd, BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};

fn params(name: &str, last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

fn main() {
    let mut authority = params("authority", 2040);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&authority_key).unwrap();
    std::fs::write("authority.pem", certificate.pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let issue = |file: &str, params: CertificateParams, key: &KeyPair| {
        std::fs::write(file, params.signed_by(key, &issuer).unwrap().pem()).unwrap();
    };
    issue("first.pem", params("node", 2030), &key);
    issue("renewed.pem", params("node", 2035), &key);
    issue("renamed.pem", params("other", 2035), &key);
    issue("new-key.pem", params("node", 2035), &KeyPair::generate().unwrap());
    let mut own = params("node", 2035);
    own.serial_number = Some(SerialNumber::from(vec![1, 2, 3, 4]));
    issue("own-serial.pem", own, &key);
}
RUST
cargo run --quiet

serial() { openssl x509 -in "$1.pem" -noout -serial | sed 's/serial=//'; }
for name in first renewed renamed new-key own-serial; do echo "$name: $(serial "$name")"; done
test "$(serial first)" = "$(serial renewed)"
test "$(serial first)" = "$(serial renamed)"
test "$(serial first)" != "$(serial new-key)"
test "$(serial first)" != "$(serial own-serial)"

openssl verify -CAfile authority.pem first.pem renewed.pem

mkdir store
certutil -N -d store --empty-password
certutil -A -d store -n first -t ,, -i first.pem
if said=$(certutil -A -d store -n renewed -t ,, -i renewed.pem 2>&1); then
    echo "NSS has taken the renewed certificate"
else
    echo "NSS: $said"
fi
echo "$said" | grep -q SEC_ERROR_REUSED_ISSUER_AND_SERIAL
certutil -A -d store -n own-serial -t ,, -i own-serial.pem
echo "NSS has taken the one with a serial number of its own"
