//! Compiles `schema/` with protox, so that nobody has to install protoc, and writes down which fields hold messages.

#![forbid(unsafe_code)]

use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(["schema/cluster.proto"], ["schema"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    std::fs::write(out.join("census.rs"), census(&descriptors))?;
    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    // BTreeMap keeps equal messages equal bytes, whatever the order of insertion.
    let builder = tonic_prost_build::configure().btree_map(".").codec_path("crate::census::Counted");
    builder.compile_fds_with_config(descriptors, names)?;
    Ok(())
}

/// For `src/census.rs`: every message's name, with the numbers of its fields that hold messages and what they hold.
fn census(descriptors: &FileDescriptorSet) -> String {
    // Messages within a message are the entries of its maps.
    fn all<'a>(within: &str, message: &'a DescriptorProto, into: &mut Vec<(String, &'a DescriptorProto)>) {
        let name = format!("{within}.{}", message.name());
        message.nested_type.iter().for_each(|nested| all(&name, nested, into));
        into.push((name, message));
    }
    let mut messages = Vec::new();
    for file in &descriptors.file {
        let package = format!(".{}", file.package());
        file.message_type.iter().for_each(|message| all(&package, message, &mut messages));
    }
    let mut text = String::from(
        "/// Messages by name, with their fields that hold messages.\nconst MESSAGES: &[(&str, &[Field])] = &[\n",
    );
    for (_, message) in &messages {
        let position = |type_name: &str| messages.iter().position(|(name, _)| name == type_name);
        let fields = message.field.iter().filter_map(|f| Some((f.number(), position(f.type_name())?)));
        let fields: Vec<String> = fields.map(|(number, child)| format!("({number}, {child})")).collect();
        text += &format!("    ({:?}, &[{}]),\n", message.name(), fields.join(", "));
    }
    text + "];\n"
}
