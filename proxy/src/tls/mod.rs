//! TLS towards the devices: certificates, session tickets, and one connection's records.
//!
//! | file         | what it holds                                                                   |
//! |--------------|---------------------------------------------------------------------------------|
//! | `acceptor`   | what a listener accepts TLS with: certificate, client CA; loaded again on demand |
//! | `tickets`    | session tickets whose keys several proxies may share                            |
//! | `shared_keys`| such keys from the session store                                                |
//! | `names`      | the names in a client's certificate                                             |
//! | `stream`     | one connection: records in, plaintext out, and back                             |
//!
//! A connection that is idle owns no buffers: records are opened in a block that the shard's connections share, and
//! sealed into a buffer that goes round. What rustls itself keeps per connection are keys and little else.
//!
//! Cryptography is ring's, which builds with a C compiler alone.

mod acceptor;
mod names;
mod shared_keys;
mod stream;
mod tickets;

pub use acceptor::{ClientCertificates, TlsAcceptor, TlsFileError, TlsFiles};
pub use names::{AlternativeName, CertificateNames};
pub(crate) use stream::TlsStream;
pub use tickets::{TicketKey, TicketKeyError, TicketKeys, Tickets, new_ticket_key};
