//! Prints `docs/openapi.json`. `cargo xtask docs` writes it.

fn main() {
    print!("{}", bongsu_admin_api::resources::openapi::to_json());
}
