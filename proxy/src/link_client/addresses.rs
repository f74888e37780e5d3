//! Where a broker is. Names are looked up on a thread of their own: the system's look-up may take seconds, and
//! heartbeats must not wait for it.

use std::io;
use std::net::{AddrParseError, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// An address of a broker, and the host of it that stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) peer: SocketAddr,
    pub(super) host: Arc<str>,
}

/// The addresses of a broker, tried in turn.
#[derive(Debug)]
pub(super) struct Addresses {
    found: Arc<Mutex<Vec<Place>>>,
    /// Asks for a new look-up; `None` if there are no names.
    ask: Option<SyncSender<()>>,
    next: usize,
}

impl Addresses {
    /// `texts` are `host:port`. `found` is called after each look-up.
    pub(super) fn new(texts: Vec<String>, found: impl Fn() + Send + 'static) -> io::Result<Self> {
        let plain = texts.iter().map(|text| {
            let peer = text.parse()?;
            let host = host(text);
            Ok::<_, AddrParseError>(Place { peer, host })
        });
        let plain: Result<Vec<_>, _> = plain.collect();
        if let Ok(plain) = plain {
            return Ok(Self {
                found: Arc::new(Mutex::new(plain)),
                ask: None,
                next: 0,
            });
        }
        let list = Arc::<Mutex<Vec<Place>>>::default();
        // One request that waits is as good as two.
        let (ask, asked) = sync_channel(1);
        let shared = Arc::clone(&list);
        std::thread::Builder::new()
            .name("link names".into())
            .spawn(move || look_up(&texts, &asked, &shared, found))?;
        let addresses = Self {
            found: list,
            ask: Some(ask),
            next: 0,
        };
        addresses.refresh();
        Ok(addresses)
    }

    /// Looks the names up again, soon.
    pub(super) fn refresh(&self) {
        if let Some(ask) = &self.ask
            && let Err(TrySendError::Disconnected(())) = ask.try_send(())
        {
            tracing::error!("the thread that looks up brokers' names is gone");
        }
    }

    /// The next address to try.
    pub(super) fn next(&mut self) -> Option<Place> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let address = found.get(self.next % found.len().max(1)).cloned();
        self.next = self.next.wrapping_add(1);
        address
    }
}

/// Ends when nobody can ask any more.
fn look_up(texts: &[String], asked: &Receiver<()>, list: &Mutex<Vec<Place>>, found: impl Fn()) {
    while asked.recv().is_ok() {
        let mut addresses = Vec::new();
        for text in texts {
            match text.to_socket_addrs() {
                Ok(some) => {
                    let host = host(text);
                    addresses.extend(some.map(|peer| Place {
                        peer,
                        host: Arc::clone(&host),
                    }));
                }
                Err(error) => {
                    tracing::debug!(address = %text, %error, "the name of a broker is not found");
                }
            }
        }
        // What was found before is better than nothing.
        if !addresses.is_empty() {
            *list.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
        found();
    }
}

/// The host of `host:port`, an address of IPv6 without its brackets.
fn host(text: &str) -> Arc<str> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    #[test]
    fn plain_addresses_are_tried_in_turn() {
        let texts = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let mut addresses = Addresses::new(texts, || {}).expect("no thread is needed");
        let ports: Vec<_> = (0..3)
            .filter_map(|_| addresses.next())
            .map(|place| place.peer.port())
            .collect();
        assert_eq!(ports, [1, 2, 1]);
    }

    #[test]
    fn names_are_looked_up_elsewhere() {
        let (tell, told) = sync_channel(8);
        let found = move || tell.send(()).expect("the test waits");
        let texts = vec!["localhost:7".to_owned()];
        let mut addresses = Addresses::new(texts, found).expect("a thread is free");
        told.recv_timeout(Duration::from_secs(20))
            .expect("looked up");
        let address = addresses.next().expect("localhost is known");
        assert!(address.peer.ip().is_loopback() && address.peer.port() == 7);
        assert_eq!(&*address.host, "localhost");
    }

    #[test]
    fn a_certificate_is_for_the_host_without_port_and_brackets() {
        for (text, expected) in [
            ("[::1]:7", "::1"),
            ("10.0.0.5:1884", "10.0.0.5"),
            ("broker-0:18930", "broker-0"),
        ] {
            assert_eq!(&*host(text), expected);
        }
    }

    #[test]
    fn an_unknown_name_has_no_address() {
        let (tell, told) = sync_channel(8);
        let found = move || tell.send(()).expect("the test waits");
        let texts = vec!["no port".to_owned()];
        let mut addresses = Addresses::new(texts, found).expect("a thread is free");
        told.recv_timeout(Duration::from_secs(20))
            .expect("looked up");
        assert_eq!(addresses.next(), None);
    }
}
