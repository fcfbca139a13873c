//! What the protocol costs in a time of its own: `cargo bench -p benches --bench model`.

fn main() {
    print!("{}", benches::report::report());
}
