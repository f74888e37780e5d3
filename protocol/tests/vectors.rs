//! Every row of `mqtt-packets.tsv` is answered as its second column says.

#[allow(dead_code, reason = "each test binary uses its part")]
mod support;

use bytes::Bytes;
use protocol::{Decoded, Version, decode, encode};
use support::{MAX_PACKET, vectors};

#[test]
fn every_row_is_answered_as_it_says() {
    let vectors = vectors();
    assert!(vectors.len() > 120, "the file was read");
    let mut wrong = Vec::new();
    for vector in &vectors {
        let chunk = Bytes::copy_from_slice(&vector.bytes);
        let answer = decode(&chunk, 0, vector.version, MAX_PACKET);
        let right = match &answer {
            Ok(Decoded::Packet { len, .. }) => vector.accept && *len == chunk.len(),
            Ok(Decoded::Incomplete { .. }) => false,
            Err(_) => !vector.accept,
        };
        if !right {
            wrong.push(format!("{} {}: {answer:?}", vector.version, vector.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn accepted_rows_are_incomplete_at_every_cut() {
    for vector in vectors().iter().filter(|vector| vector.accept) {
        for cut in 0..vector.bytes.len() {
            let chunk = Bytes::copy_from_slice(&vector.bytes[..cut]);
            let answer = decode(&chunk, 0, vector.version, MAX_PACKET);
            let Ok(Decoded::Incomplete { need }) = answer else {
                panic!("{} cut at {cut}: {answer:?}", vector.name);
            };
            assert!(
                need.is_none_or(|need| need == vector.bytes.len()),
                "{}",
                vector.name
            );
            assert!(need.is_some() || cut < 5, "{}", vector.name);
        }
    }
}

#[test]
fn accepted_rows_mean_the_same_after_encoding() {
    for vector in vectors().iter().filter(|vector| vector.accept) {
        let packet = read(&vector.bytes, vector.version);
        let mut out = Vec::new();
        encode(&packet, vector.version, &mut out).expect(vector.name);
        assert_eq!(read(&out, vector.version), packet, "{}", vector.name);
    }
}

fn read(bytes: &[u8], version: Version) -> protocol::Packet {
    match decode(&Bytes::copy_from_slice(bytes), 0, version, MAX_PACKET) {
        Ok(Decoded::Packet { packet, len }) if len == bytes.len() => packet,
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}
