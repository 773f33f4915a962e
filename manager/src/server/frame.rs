//! Frames: a header of ten bytes (length, stream, type, flags; the numbers big-endian), then that many bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest payload of a frame, both ways, in bytes.
pub(crate) const MOST: usize = 4 << 20;
/// A request's type.
pub(crate) const REQUEST: u8 = 1;
/// A response's type.
pub(crate) const RESPONSE: u8 = 2;
/// The length of a header, in bytes.
const HEADER: usize = 10;

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    /// None where it was longer than a frame may be; it has been skipped then.
    pub(crate) payload: Option<Vec<u8>>,
}

/// Reads a frame; none at the end of the stream.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    if let Err(error) = from.read_exact(&mut header).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
    let payload = match usize::try_from(length) {
        Ok(length) if length <= MOST => {
            let mut payload = vec![0; length];
            from.read_exact(&mut payload).await?;
            Some(payload)
        }
        _ => {
            tokio::io::copy(&mut from.take(length.into()), &mut tokio::io::sink()).await?;
            None
        }
    };
    Ok(Some(Frame { stream, kind, payload }))
}

/// Writes a frame in one piece.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    stream: u32,
    kind: u8,
    payload: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() -> io::Result<()> {
        let mut wire = Vec::new();
        write(&mut wire, 7, RESPONSE, b"abc").await?;
        assert_eq!(wire, b"\0\0\0\x03\0\0\0\x07\x02\0abc");
        let frame = read(&mut wire.as_slice()).await?;
        assert_eq!(frame, Some(Frame { stream: 7, kind: RESPONSE, payload: Some(b"abc".to_vec()) }));
        Ok(())
    }

    #[tokio::test]
    async fn j7_a_frame_that_is_too_long_is_skipped_and_the_next_is_read() -> io::Result<()> {
        let mut wire = Vec::new();
        write(&mut wire, 1, RESPONSE, &vec![0; MOST + 1]).await?;
        write(&mut wire, 3, RESPONSE, b"next").await?;
        let mut from = wire.as_slice();
        assert_eq!(read(&mut from).await?.map(|frame| (frame.stream, frame.payload)), Some((1, None)));
        assert_eq!(read(&mut from).await?.map(|frame| frame.stream), Some(3));
        assert_eq!(read(&mut from).await?, None);
        Ok(())
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_off_is_an_error() {
        assert!(read(&mut &b"\0\0\0\x03\0\0\0\x07\x02\0ab"[..]).await.is_err());
    }
}
