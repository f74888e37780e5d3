//! The PROXY protocol, version 2: the first bytes of a connection that a load balancer passes on say whose it is.
//!
//! The crate `ppp` reads the header. Here is what it leaves open: reading no byte more than the header has, the bound on
//! its size, and which headers are refused. Only listeners that are configured for it expect a header, and they refuse
//! connections without one: otherwise a device could choose its own address.

use crate::limits::PROXY_HEADER_BYTES_MAX;
use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX, ParseError, Protocol};
use std::io::{self, Read};
use std::net::SocketAddr;

/// Bytes before the addresses: signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

/// A header that has not come whole.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    bytes: Vec<u8>,
}

/// Whom a connection comes from, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client of the load balancer.
    Client(SocketAddr),
    /// The load balancer itself (its health check), or a client whose address it does not say.
    Balancer,
}

/// Why a connection is refused: its first bytes are no header of version 2 for a TCP connection.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// Another protocol, or version 1.
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    NoHeader,
    /// The header breaks the protocol.
    #[error("PROXY protocol header: {0}")]
    Broken(ParseError),
    /// Longer than [`PROXY_HEADER_BYTES_MAX`].
    #[error("PROXY protocol header of {0} bytes")]
    TooLarge(usize),
    /// Of a connection that is none of TCP.
    #[error("PROXY protocol header of a connection that is not TCP")]
    NotTcp,
}

impl HeaderReader {
    /// Reads on, and never past the header's end. `WouldBlock` while it is not whole; `UnexpectedEof` if it never will
    /// be; `InvalidData` with a [`HeaderError`] inside.
    pub(crate) fn read(&mut self, socket: &mut impl Read) -> io::Result<Origin> {
        loop {
            let have = self.bytes.len();
            let need = self.need().map_err(refuse)?;
            if have == need {
                return origin(&self.bytes).map_err(refuse);
            }
            self.bytes.resize(need, 0);
            let result = socket.read(&mut self.bytes[have..]);
            self.bytes.truncate(have + *result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The length of the header, as far as it can be known.
    fn need(&self) -> Result<usize, HeaderError> {
        let start = self.bytes.len().min(PROTOCOL_PREFIX.len());
        if self.bytes[..start] != PROTOCOL_PREFIX[..start] {
            return Err(HeaderError::NoHeader);
        }
        if self.bytes.len() < FIXED_BYTES {
            return Ok(FIXED_BYTES);
        }
        let length = u16::from_be_bytes([self.bytes[14], self.bytes[15]]);
        match FIXED_BYTES + usize::from(length) {
            need if need > PROXY_HEADER_BYTES_MAX => Err(HeaderError::TooLarge(need)),
            need => Ok(need),
        }
    }
}

fn refuse(error: HeaderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn origin(bytes: &[u8]) -> Result<Origin, HeaderError> {
    let header = Header::try_from(bytes).map_err(HeaderError::Broken)?;
    if let Some(error) = header.tlvs().find_map(Result::err) {
        return Err(HeaderError::Broken(error));
    }
    match (header.command, header.protocol, header.addresses) {
        (Command::Local, _, _) | (Command::Proxy, _, Addresses::Unspecified) => {
            Ok(Origin::Balancer)
        }
        (_, Protocol::Stream, Addresses::IPv4(of)) => {
            Ok(Origin::Client((of.source_address, of.source_port).into()))
        }
        (_, Protocol::Stream, Addresses::IPv6(of)) => {
            Ok(Origin::Client((of.source_address, of.source_port).into()))
        }
        _ => Err(HeaderError::NotTcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Builder, Version};
    use proptest::prelude::*;

    /// Gives what it has in pieces of a size, and then blocks.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let len = self.1.min(buf.len()).min(self.0.len());
            buf[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn header(command: Command, protocol: Protocol, from: &str) -> Vec<u8> {
        let from: SocketAddr = from.parse().expect("an address");
        let mut to = from;
        to.set_port(8883);
        Builder::with_addresses(Version::Two | command, protocol, (from, to))
            .write_tlv(5_u8, b"unique")
            .and_then(Builder::build)
            .expect("short enough")
    }

    fn read(bytes: &[u8], piece: usize) -> (io::Result<Origin>, usize) {
        let mut socket = Pieces(bytes, piece);
        let result = HeaderReader::default().read(&mut socket);
        (result, socket.0.len())
    }

    fn error(bytes: &[u8]) -> HeaderError {
        let error = read(bytes, 5).0.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.into_inner().expect("says why");
        *inner.downcast().expect("of ours")
    }

    #[test]
    fn a_header_in_any_pieces_names_the_client_and_leaves_what_follows() {
        for from in ["192.0.2.7:40000", "[2001:db8::7]:40000"] {
            let mut bytes = header(Command::Proxy, Protocol::Stream, from);
            bytes.extend_from_slice(b"behind");
            for piece in 1..40 {
                let (origin, left) = read(&bytes, piece);
                let client = from.parse().expect("an address");
                assert_eq!(origin.expect("valid"), Origin::Client(client));
                assert_eq!(left, 6);
            }
        }
    }

    #[test]
    fn health_checks_of_the_balancer_are_its_own() {
        let local = header(Command::Local, Protocol::Stream, "192.0.2.7:40000");
        assert_eq!(read(&local, 99).0.expect("valid"), Origin::Balancer);
        let unspecified = [PROTOCOL_PREFIX, &[0x21, 0, 0, 0]].concat();
        assert_eq!(read(&unspecified, 99).0.expect("valid"), Origin::Balancer);
    }

    #[test]
    fn whatever_is_no_header_of_version_2_is_refused_at_its_first_wrong_byte() {
        assert_eq!(error(b"\x10\x0c\x00\x04MQTT"), HeaderError::NoHeader);
        assert_eq!(
            error(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"),
            HeaderError::NoHeader
        );
        assert_eq!(error(b"\r\n\r\n\0\r\nQUIT\r"), HeaderError::NoHeader);
        let version = [PROTOCOL_PREFIX, &[0x31, 0x11, 0, 0]].concat();
        assert_eq!(
            error(&version),
            HeaderError::Broken(ParseError::Version(0x30))
        );
        let short = [PROTOCOL_PREFIX, &[0x21, 0x11, 0, 11], &[0; 11]].concat();
        let few = ParseError::InvalidAddresses(11, 12);
        assert_eq!(error(&short), HeaderError::Broken(few));
        let large = [PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert_eq!(error(&large), HeaderError::TooLarge(65_551));
        let udp = header(Command::Proxy, Protocol::Datagram, "192.0.2.7:40000");
        assert_eq!(error(&udp), HeaderError::NotTcp);
        let mut extension = header(Command::Proxy, Protocol::Stream, "192.0.2.7:40000");
        let length_at = extension.len() - b"unique".len() - 1;
        extension[length_at] = 60;
        assert!(matches!(
            error(&extension),
            HeaderError::Broken(ParseError::InvalidTLV(5, 60))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_read_further_than_its_limit(
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            with_prefix: bool,
            piece in 1..50_usize,
        ) {
            let prefix: &[u8] = if with_prefix { PROTOCOL_PREFIX } else { b"" };
            let bytes = [prefix, &tail].concat();
            let mut socket = Pieces(&bytes, piece);
            let mut reader = HeaderReader::default();
            let result = reader.read(&mut socket);
            prop_assert!(reader.bytes.len() <= PROXY_HEADER_BYTES_MAX);
            prop_assert!(result.is_err() || with_prefix);
        }
    }
}
