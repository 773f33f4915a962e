//! What a server decodes before any handler is asked, open to tests/fuzz, and built for it only.

use super::frame;

/// A frame: its stream, its type, its payload unless that was too long.
pub type Frame = (u32, u8, Option<Vec<u8>>);

/// The frames that a connection reads before it closes.
pub async fn read(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = frame::read(&mut bytes).await {
        frames.push((frame.stream, frame.kind, frame.payload));
    }
    frames
}

/// A frame as it is written.
///
/// # Errors
/// Where the payload is longer than a frame can tell.
pub async fn write(stream: u32, kind: u8, payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut wire = Vec::new();
    frame::write(&mut wire, stream, kind, payload).await?;
    Ok(wire)
}
