//! Compression of bodies and messages: gzip and deflate, in both directions and for both protocols. Decompression holds to the
//! same limits as a plain body while it goes on, so that a small bomb never becomes a large one.

use std::io::{Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::{
    Compression,
    bufread::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};

use super::{budget::Share, intake::Intake};
use crate::types::Error;

/// Bytes that are decompressed before other requests of the thread get their turn.
const TURN: usize = 256 << 10;

/// A compression that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which both protocols call deflate.
    Deflate,
}

impl Coding {
    /// A coding by its token, in any case.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let token = token.trim();
        if token.eq_ignore_ascii_case("gzip") || token.eq_ignore_ascii_case("x-gzip") {
            Some(Coding::Gzip)
        } else if token.eq_ignore_ascii_case("deflate") {
            Some(Coding::Deflate)
        } else {
            None
        }
    }

    /// Its token.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The first coding that a list like `gzip;q=1.0, deflate` accepts; `None` = send as it is.
    pub(super) fn accepted(list: &str) -> Option<Self> {
        list.split(',').find_map(|item| {
            let (token, quality) = item.split_once(';').unwrap_or((item, ""));
            let weight = quality.trim().strip_prefix("q=").map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            Coding::parse(token).filter(|_| weight > 0.0)
        })
    }
}

/// Decompresses under the limits of `intake`; `share` grows with what comes out.
///
/// # Errors
/// `InvalidArgument` for damaged data, `TooLarge` or `Overloaded` as for a plain body.
pub(super) async fn decompress(
    coding: Coding,
    data: &Bytes,
    intake: &Intake,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let mut reader: Box<dyn Read + Send> = match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(data.clone().reader())),
        Coding::Deflate => Box::new(ZlibDecoder::new(data.clone().reader())),
    };
    let mut out = BytesMut::new();
    loop {
        let filled = out.len();
        let room = TURN.min(intake.max_body.saturating_sub(filled).saturating_add(1)).max(1);
        intake.admit(share, data.len().max(filled + room).min(intake.max_body))?;
        out.resize(filled + room, 0);
        let read = fill(&mut reader, &mut out[filled..])
            .map_err(|error| Error::invalid(format!("body: {} cannot be decompressed: {error}", coding.as_str())))?;
        out.truncate(filled + read);
        if out.len() > intake.max_body {
            return Err(intake.too_large());
        }
        if read < room {
            return Ok(out.freeze());
        }
        tokio::task::yield_now().await;
    }
}

/// Reads until the buffer is full or the data ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Compresses, fast rather than small. `None` when that failed or gained nothing, and the plain bytes should be sent.
pub(super) fn compress(coding: Coding, data: &[u8]) -> Option<Bytes> {
    let out = Vec::with_capacity(data.len() / 2 + 64);
    let packed = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::fast());
            encoder.write_all(data).and_then(|()| encoder.finish())
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, Compression::fast());
            encoder.write_all(data).and_then(|()| encoder.finish())
        }
    };
    packed.ok().filter(|packed| packed.len() < data.len()).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{transport::budget::Budget, types::ErrorCode};

    fn intake(max_body: usize) -> Intake {
        Intake { max_body, patience: Duration::from_secs(1), budget: Budget::new(8 << 20) }
    }

    #[tokio::test]
    async fn round_trips() {
        let plain = b"weir ".repeat(200_000);
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = compress(coding, &plain).unwrap();
            let intake = intake(1 << 20);
            let mut share = intake.budget.share();
            let unpacked = decompress(coding, &packed, &intake, &mut share).await.unwrap();
            assert_eq!(unpacked, plain);
            let exact = super::super::coding::tests::intake(plain.len());
            assert_eq!(decompress(coding, &packed, &exact, &mut exact.budget.share()).await.unwrap(), plain);
        }
        assert_eq!(compress(Coding::Gzip, b"x"), None);
    }

    #[tokio::test]
    async fn bombs_and_damage() {
        let packed = compress(Coding::Gzip, &vec![0; 64 << 20]).unwrap();
        assert!(packed.len() < 1 << 20);
        let small = intake(1 << 20);
        let mut share = small.budget.share();
        let error = decompress(Coding::Gzip, &packed, &small, &mut share).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        assert!(small.budget.used() <= 1 << 20);

        let crowded = intake(32 << 20);
        let error = decompress(Coding::Gzip, &packed, &crowded, &mut crowded.budget.share()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overloaded);

        for damaged in [&packed[..packed.len() / 2], b"not gzip at all", b""] {
            let damaged = Bytes::copy_from_slice(damaged);
            let got = decompress(Coding::Gzip, &damaged, &intake(128 << 20), &mut Budget::new(256 << 20).share()).await;
            assert_eq!(got.unwrap_err().code(), ErrorCode::InvalidArgument, "{} bytes", damaged.len());
        }
    }

    #[test]
    fn what_is_accepted() {
        for (list, want) in [
            ("gzip, deflate", Some(Coding::Gzip)),
            ("br, deflate;q=0.5", Some(Coding::Deflate)),
            ("gzip;q=0, deflate;q=0.000", None),
            ("identity", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(Coding::accepted(list), want, "{list}");
        }
    }
}
