//! The services that containerd calls.

pub mod decode;
pub mod task;
