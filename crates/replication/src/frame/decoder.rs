//! From a stream of bytes to frames.

use std::sync::Arc;

use super::{Frame, FrameError, HEADER_BYTES, Header, decode_header};

/// Cuts a stream of bytes into frames. Holds at most one frame (4 MiB) and what was pushed last.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    at: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Call [`Decoder::next`](Self::next) until it has none before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes still needed for the next frame, as far as is known yet; 0: there is one.
    pub fn missing(&self) -> usize {
        let rest = &self.buffer[self.at..];
        let needed = match header(rest) {
            Some(Ok(header)) => HEADER_BYTES + header.body_len,
            Some(Err(_)) => 0,
            None => HEADER_BYTES,
        };
        needed.saturating_sub(rest.len())
    }

    /// The next frame; `None` until more bytes come.
    ///
    /// # Errors
    /// Where the bytes are not frames; the same error ever after.
    #[allow(clippy::should_implement_trait, reason = "it is not an iterator: None is not the end")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.decode().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn decode(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.at..];
        let Some(header) = header(rest).transpose()? else { return Ok(None) };
        let len = HEADER_BYTES + header.body_len;
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let frame: Arc<[u8]> = frame.into();
        self.at += len;
        Frame::decode(&header, frame).map(Some)
    }
}

fn header(bytes: &[u8]) -> Option<Result<Header, FrameError>> {
    bytes.first_chunk::<HEADER_BYTES>().map(decode_header)
}
