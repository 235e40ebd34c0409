//! Any bytes to frames and records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stead_replication::frame::{FrameKind, HEADER_BYTES, Header, body};
use stead_replication::{Decoder, Frame};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    while let Ok(Some(frame)) = decoder.next() {
        if let Frame::Changes(changes) = frame {
            let _ = changes.records();
        }
    }
    // Behind the checksums: the body alone, under a header that fits it.
    if let Some((first, body)) = bytes.split_first() {
        let header = Header {
            version: 1,
            kind: FrameKind::Changes,
            flags: u16::from(*first),
            body_len: body.len(),
            raw_len: body.len().saturating_mul(4).min(HEADER_BYTES << 14),
            body_crc: 0,
            epoch: 1,
            writer: 0,
            incarnation: 1,
            first: 1,
            last: u64::from(u32::MAX),
            time: 0,
        };
        if let Ok(raw) = body::unpack(header.flags, header.raw_len, body) {
            let _ = body::check(&header, &raw);
        }
    }
});
