//! What this build is called, and the answer to `-info`.

use std::io::{self, Write as _};
use std::sync::Arc;

use gam_protos::types::{RuntimeInfo, RuntimeVersion};
use gam_task::options::Options;
use gam_task::reaper::Reaper;
use gam_task::runtime::{self, Settings};
use gam_task::telemetry::Silent;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use crate::bootstrap::{self, BootstrapError};
use crate::cli::Flags;
use crate::options::Named;

/// The runtime's type, as containerd's configuration names it.
pub const NAME: &str = "io.containerd.gam.v2";

/// This build's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision this build was made of, from `GAM_REVISION` in its environment.
pub const REVISION: &str = match option_env!("GAM_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The type of the Go struct that `runc features` prints as JSON, as containerd's typeurl names it.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// What came on stdin is not understood.
    #[error(transparent)]
    Question(#[from] BootstrapError),
    /// The answer cannot be printed.
    #[error("cannot print the answer: {0}")]
    Print(io::Error),
}

/// Carries out `-info`: the answer is the only thing on stdout.
///
/// # Errors
/// [`InfoError`]; a runtime that does not answer is none.
pub fn run(_flags: &Flags) -> Result<(), InfoError> {
    let bytes = bootstrap::read(io::stdin().lock())?;
    let options =
        Some(bytes).filter(|bytes| !bytes.is_empty()).and_then(|bytes| Any::parse_from_bytes(&bytes).ok());
    let named = options.as_ref().and_then(|any| Named::from_any(any).ok()).unwrap_or_default();
    let features = features(&named.resolve(""));
    io::stdout().lock().write_all(&answer(options, features.as_deref())).map_err(InfoError::Print)
}

/// What the runtime can do, as it says itself; none if it does not say.
fn features(options: &Options) -> Option<Vec<u8>> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    threads.block_on(async {
        let reaper = Reaper::new(Arc::new(Silent)).ok()?;
        runtime::features(&reaper, &Settings::new(options, "")).await.ok()
    })
}

/// Encodes `containerd.types.RuntimeInfo`, what `-info` prints.
///
/// `options` is echoed. `features` is what `runc features` printed; where a runtime prints none, or no JSON object, the
/// field is left out. containerd of 2.2 asks before it creates a container, so there is no way for this to fail: what
/// cannot be encoded is left out too. No annotation is set; in particular not `containerd.io/runtime-allow-mounts`,
/// which would have containerd leave mounts to the shim.
#[must_use]
pub fn answer(options: Option<Any>, features: Option<&[u8]>) -> Vec<u8> {
    let mut info = RuntimeInfo::new();
    info.name = NAME.to_owned();
    let mut version = RuntimeVersion::new();
    version.version = VERSION.to_owned();
    version.revision = REVISION.to_owned();
    info.version = MessageField::some(version);
    info.options = options.into();
    info.features = features.and_then(features_any).into();
    info.write_to_bytes().unwrap_or_default()
}

/// Wraps the JSON of `runc features`.
fn features_any(json: &[u8]) -> Option<Any> {
    let is_object = serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|value| value.is_object());
    if !is_object {
        tracing::debug!("the runtime has no features to tell");
        return None;
    }
    let mut any = Any::new();
    any.type_url = FEATURES_TYPE.to_owned();
    any.value = json.trim_ascii().to_vec();
    Some(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j3_the_runtimes_own_features_are_told() {
        let output = features(&Options::default()).unwrap();
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"\x48\x01".to_vec(),
            ..Any::default()
        };
        let bytes = answer(Some(options.clone()), Some(&output));
        let info = RuntimeInfo::parse_from_bytes(&bytes).unwrap();
        assert_eq!(info.name, "io.containerd.gam.v2");
        assert_eq!(info.version.version, VERSION);
        assert_eq!(info.options.as_ref(), Some(&options));
        assert_eq!(info.features.type_url, FEATURES_TYPE);
        let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
        assert!(features.get("linux").is_some(), "{features}");
        assert!(info.annotations.is_empty());
    }

    #[test]
    fn without_features_the_rest_is_told() {
        for features in [None, Some(&b""[..]), Some(b"unknown command"), Some(b"[]"), Some(b"{")] {
            let info = RuntimeInfo::parse_from_bytes(&answer(None, features)).unwrap();
            assert!(info.features.is_none() && info.options.is_none());
            assert_eq!(info.name, NAME);
        }
    }
}
