//! The project's own tasks. `cargo xtask codegen [--check]`.

mod codegen;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["codegen"] => codegen::run(false),
        ["codegen", "--check"] => codegen::run(true),
        _ => anyhow::bail!("usage: cargo xtask codegen [--check]"),
    }
}
