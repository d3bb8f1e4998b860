//! Prints `docs/configuration.md`. `cargo xtask docs` writes it.

fn main() {
    print!("{}", bongsu::config::markdown());
}
