//! Fields of a snapshot, one by one. Integers are little endian.

use cluster::ids::ClientNo;

pub(in crate::machine) fn put_u8(value: u8, out: &mut Vec<u8>) {
    out.push(value);
}

pub(in crate::machine) fn put_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(in crate::machine) fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(in crate::machine) fn put_u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A client's number or none, as `u32::MAX`.
pub(in crate::machine) fn put_client(client: Option<ClientNo>, out: &mut Vec<u8>) {
    put_u32(client.map_or(u32::MAX, |client| client.0), out);
}

pub(in crate::machine) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_u32(bytes.len() as u32, out);
    out.extend_from_slice(bytes);
}

pub(in crate::machine) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_bytes(text.as_bytes(), out);
}

pub(in crate::machine) fn put_option<T>(
    value: Option<&T>,
    out: &mut Vec<u8>,
    put: impl FnOnce(&T, &mut Vec<u8>),
) {
    put_u8(u8::from(value.is_some()), out);
    if let Some(value) = value {
        put(value, out);
    }
}

pub(in crate::machine) fn put_list<T>(
    list: &[T],
    out: &mut Vec<u8>,
    put: impl Fn(&T, &mut Vec<u8>),
) {
    put_u32(list.len() as u32, out);
    for value in list {
        put(value, out);
    }
}
