//! Generates the Rust types of the wire schema, so that a build needs no schema compiler.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The schema, from the workspace's root.
const SCHEMA: &str = "protocol/proto/bongsu.v1.proto";

/// The committed types, from the workspace's root.
const GENERATED: &str = "protocol/src/codec/bongsu.v1.pb.rs";

/// Messages that a client reads from JSON as they stand. The others have forms of their own there; see the codec.
const READ_FROM_JSON: [&str; 13] = [
    "Authenticated",
    "Error",
    "Goodbye",
    "Lost",
    "Pong",
    "Position",
    "Published",
    "Reset",
    "Subscribed",
    "TokenExpiring",
    "TopicPosition",
    "Unsubscribed",
    "Welcome",
];

/// How it reads them: absent fields are empty, unknown ones are skipped.
const READ_FROM_JSON_AS: &str =
    "#[derive(::serde::Deserialize)]\n#[serde(default, rename_all = \"camelCase\")]";

/// Stands first in the generated file.
const HEADER: &str = "// Generated from proto/bongsu.v1.proto by `cargo xtask codegen`. Do not edit.\n\n";

/// Writes the types that belong to the schema, or, with `check`, only compares.
///
/// # Errors
/// The schema does not compile, a file cannot be read or written, or, with `check`, the committed types are not those
/// of the schema: run `cargo xtask codegen` and commit what it writes.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = root()?;
    let path = root.join(GENERATED);
    let wanted = generate(&root.join(SCHEMA))?;
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found == wanted {
        return Ok(());
    }
    if check {
        bail!("{GENERATED} is not what {SCHEMA} says: run `cargo xtask codegen` and commit the result");
    }
    std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))
}

/// Compiles the schema with protox, which is Rust all the way, so that nobody has to install protoc.
fn generate(schema: &Path) -> anyhow::Result<String> {
    let folder = schema.parent().context("the schema lies in a folder")?;
    let files = protox::compile([schema], [folder]).context("the schema does not compile")?;
    let modules = files
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let mut config = prost_build::Config::new();
    for message in READ_FROM_JSON {
        config.type_attribute(format!(".bongsu.v1.{message}"), READ_FROM_JSON_AS);
    }
    let mut generated = config
        // Payloads and infos are slices of the frame that they came in.
        .bytes(["."])
        // The schema is the place to read; a change of its comments alone changes no code.
        .disable_comments(["."])
        .generate(modules)
        .context("no code can be made of the schema")?;
    let code = generated.drain().next().context("the schema has one package")?.1;
    Ok(format!("{HEADER}{code}"))
}

/// The workspace's root: the folder above this package's.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("the tasks lie in the workspace")?.to_path_buf())
}
