//! Makes cargo compile the crate again when a migration is added; it notices changed ones by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
