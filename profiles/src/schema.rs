//! JSON Schema (draft 2020-12) of every kind of document, for editors.

use crate::{
    API_VERSION,
    shapes::{ConfigurationDocument, SettingsDocument, SoftwareDocument, TemplateDocument},
};
use schemars::{Schema, schema_for};
use serde_json::{Value, json};

/// The kinds of documents.
pub const KINDS: [&str; 4] = ["MachineTemplate", "SoftwareProfile", "ConfigurationProfile", "Settings"];

/// The schema of one kind; `None` when there is no such kind.
#[must_use]
pub fn schema(kind: &str) -> Option<Value> {
    let schema: Schema = match kind {
        "MachineTemplate" => schema_for!(TemplateDocument),
        "SoftwareProfile" => schema_for!(SoftwareDocument),
        "ConfigurationProfile" => schema_for!(ConfigurationDocument),
        "Settings" => schema_for!(SettingsDocument),
        _ => return None,
    };
    let mut schema = schema.to_value();
    schema["title"] = json!(kind);
    schema["properties"]["apiVersion"] = json!({"const": API_VERSION});
    schema["properties"]["kind"] = json!({"const": kind});
    if let Some(driver) = schema.pointer_mut("/$defs/JoinSpec/properties/driver") {
        driver["enum"] = contracts::join::DRIVERS.iter().map(|driver| driver.name).collect();
    }
    Some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_GOLDEN=1 cargo test -p profiles` writes them anew.
    #[test]
    fn the_schemas_in_the_repository_are_those_of_the_code() {
        for kind in KINDS {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{kind}.json"));
            let text = format!("{:#}\n", schema(kind).unwrap());
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&file, &text).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), text, "{}", file.display());
        }
        assert_eq!(schema("Pod"), None);
    }
}
