//! Turns the .proto files into Rust: messages of all, and ttrpc clients and servers of those that hold a service.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// The files; their names become the modules' names.
const FILES: [&str; 12] = [
    "types",
    "task_types",
    "task",
    "events",
    "events_ttrpc",
    "sandbox",
    "bootstrap",
    "runc_options",
    "runtimeoptions",
    "version",
    "cgroups_v1",
    "cgroups_v2",
];

/// Those of them that hold a service, which becomes a module of its own.
const SERVICES: [&str; 3] = ["task_ttrpc", "events_ttrpc_ttrpc", "sandbox_ttrpc"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("generated");
    std::fs::create_dir_all(&out)?;
    let inputs: Vec<PathBuf> =
        FILES.iter().map(|name| Path::new("proto").join(name).with_extension("proto")).collect();
    Codegen::new()
        .out_dir(&out)
        .inputs(&inputs)
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false).lite_runtime(true))
        .customize(Customize { async_all: true, ..Default::default() })
        .run()?;
    std::fs::write(out.join("modules.rs"), modules(&out)?)?;
    Ok(())
}

/// The declarations of the generated modules. Generated files begin with inner attributes, which rules out `include!`.
fn modules(out: &Path) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for name in FILES {
        writeln!(text, "#[path = {:?}]\npub mod {name};", out.join(name).with_extension("rs"))?;
    }
    for name in SERVICES {
        let path = out.join(name).with_extension("rs");
        writeln!(text, "#[cfg(feature = \"services\")]\n#[path = {path:?}]\npub mod {name};")?;
    }
    Ok(text)
}
