//! Messages in an `Any`, named as containerd names them: the bare full name, without a host before it.

use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::{cgroups_v1, cgroups_v2, events, runc_options, runtimeoptions};

/// A message that travels in an `Any`.
pub trait Named: Message {
    /// Its full name.
    const FULL_NAME: &'static str;
}

macro_rules! named {
    ($($message:ty = $name:literal;)*) => {
        $(impl Named for $message { const FULL_NAME: &'static str = $name; })*
    };
}

named! {
    events::TaskCreate = "containerd.events.TaskCreate";
    events::TaskStart = "containerd.events.TaskStart";
    events::TaskOOM = "containerd.events.TaskOOM";
    events::TaskExit = "containerd.events.TaskExit";
    events::TaskDelete = "containerd.events.TaskDelete";
    events::TaskExecAdded = "containerd.events.TaskExecAdded";
    events::TaskExecStarted = "containerd.events.TaskExecStarted";
    events::TaskPaused = "containerd.events.TaskPaused";
    events::TaskResumed = "containerd.events.TaskResumed";
    events::TaskCheckpointed = "containerd.events.TaskCheckpointed";
    runc_options::Options = "containerd.runc.v1.Options";
    runc_options::CheckpointOptions = "containerd.runc.v1.CheckpointOptions";
    runc_options::ProcessDetails = "containerd.runc.v1.ProcessDetails";
    runtimeoptions::Options = "runtimeoptions.v1.Options";
    cgroups_v1::Metrics = "io.containerd.cgroups.v1.Metrics";
    cgroups_v2::Metrics = "io.containerd.cgroups.v2.Metrics";
}

/// Puts a message into an `Any`.
///
/// # Errors
/// Where the message is too large to be encoded.
pub fn pack<M: Named>(message: &M) -> protobuf::Result<Any> {
    let mut any = Any::new();
    any.type_url = M::FULL_NAME.to_owned();
    any.value = message.write_to_bytes()?;
    Ok(any)
}

/// Whether `any` holds an `M`, by the last segment of its type URL: `type.googleapis.com/x` and `x` are the same.
#[must_use]
pub fn is<M: Named>(any: &Any) -> bool {
    any.type_url.rsplit('/').next() == Some(M::FULL_NAME)
}

/// The `M` that `any` holds; none if it holds something else.
///
/// # Errors
/// Where the content is not what the type URL says.
pub fn unpack<M: Named>(any: &Any) -> protobuf::Result<Option<M>> {
    if is::<M>(any) { M::parse_from_bytes(&any.value).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_has_a_bare_name_and_either_form_is_unpacked() -> protobuf::Result<()> {
        let mut start = events::TaskStart::new();
        start.container_id = "c".into();
        start.pid = 7;
        let mut any = pack(&start)?;
        assert_eq!(any.type_url, "containerd.events.TaskStart");
        assert_eq!(any.value, b"\x0a\x01c\x10\x07");
        any.type_url.insert_str(0, "type.googleapis.com/");
        assert_eq!(unpack(&any)?, Some(start));
        assert_eq!(unpack::<events::TaskOOM>(&any)?, None);
        Ok(())
    }

    #[test]
    fn what_is_cut_off_is_an_error() -> protobuf::Result<()> {
        let mut any = pack(&events::TaskOOM::new())?;
        any.value = b"\x0a\x05c".to_vec();
        assert!(unpack::<events::TaskOOM>(&any).is_err());
        Ok(())
    }
}
