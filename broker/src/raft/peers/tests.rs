//! Calls over real sockets.

use super::*;
use cluster::transport::LinkTlsPem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

fn credentials(secret: &[u8], group: u8) -> Arc<Credentials> {
    Arc::new(Credentials {
        group: GroupNo(group),
        secret: secret.into(),
        tls: None,
    })
}

/// Certificates of one CA for this many members.
fn certificates(members: usize) -> Vec<Arc<LinkTls>> {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("signed").pem();
    let issuer = Issuer::new(params, ca_key);
    let member = |_| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        let pem = LinkTlsPem {
            ca: ca.clone().into_bytes(),
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        };
        Arc::new(LinkTls::new(&pem).expect("good texts"))
    };
    (0..members).map(member).collect()
}

fn with_tls(tls: &Arc<LinkTls>) -> Arc<Credentials> {
    Arc::new(Credentials {
        group: GroupNo(1),
        secret: b"a secret"[..].into(),
        tls: Some(Arc::clone(tls)),
    })
}

/// Answers each call with its bytes turned around.
async fn turning(secret: &[u8]) -> Node {
    turning_for(credentials(secret, 1)).await
}

async fn turning_for(credentials: Arc<Credentials>) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let answer: Answerer = Arc::new(|call: Bytes| {
        Box::pin(async move { call.iter().rev().copied().collect::<Vec<_>>().into() })
    });
    tokio::spawn(listen(listener, credentials, answer));
    Node {
        name: "there".into(),
        address: address.into(),
    }
}

#[tokio::test]
async fn calls_are_answered_whatever_their_size() {
    let there = turning(b"a secret").await;
    let peers = TcpPeers::new(credentials(b"a secret", 1));
    for len in [0, 1, 1_000, 70_000, 3_000_000_u32] {
        let call: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let answer = peers
            .call(&there, call.clone().into())
            .await
            .expect("an answer");
        assert!(answer.iter().rev().eq(call.iter()), "{len}");
    }
    let calls = (0..20_u8).map(|n| tokio::spawn(peers.call(&there, vec![n, 7].into())));
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let answer = call.await.expect("no panic").expect("an answer");
        assert_eq!(*answer, [7, n as u8]);
    }
}

#[tokio::test]
async fn calls_pass_through_tls_and_strangers_do_not() {
    let ours = certificates(2);
    let there = turning_for(with_tls(&ours[0])).await;
    let peers = TcpPeers::new(with_tls(&ours[1]));
    for len in [0, 100, 3_000_000_u32] {
        let call: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let answer = peers
            .call(&there, call.clone().into())
            .await
            .expect("an answer");
        assert!(answer.iter().rev().eq(call.iter()), "{len}");
    }
    let theirs = certificates(1);
    let stranger = TcpPeers::new(with_tls(&theirs[0]));
    let refused = stranger.call(&there, Bytes::from_static(b"hello")).await;
    let error = refused.expect_err("another CA").to_string();
    assert!(error.contains("TLS"), "{error}");
    let plain = TcpPeers::new(credentials(b"a secret", 1));
    let refused = plain.call(&there, Bytes::from_static(b"hello")).await;
    refused.expect_err("without TLS");
}

#[tokio::test]
async fn a_member_of_another_fleet_or_group_is_refused() {
    let there = turning(b"a secret").await;
    for (secret, group, why) in [
        (&b"another"[..], 1, "check both secrets"),
        (
            b"a secret",
            2,
            "is a member of group 1, this end of another",
        ),
    ] {
        let peers = TcpPeers::new(credentials(secret, group));
        let refused = peers.call(&there, Bytes::from_static(b"hello")).await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains(&*there.address), "{error}");
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn what_breaks_a_limit_and_which_is_said() {
    for (says, expected) in [
        (
            &1_000_000_u32.to_le_bytes()[..],
            "a frame of 1000000 bytes; 8 to 264 are taken",
        ),
        (&[], "who the other end is, took longer than 1s"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let there = Node {
            name: "there".into(),
            address: address.clone().into(),
        };
        let peers = TcpPeers::new(credentials(b"a secret", 1));
        let call = tokio::spawn(peers.call(&there, Bytes::from_static(b"hello")));
        let (socket, _) = listener.accept().await.expect("it connects");
        let written = socket.try_write(says).expect("writable");
        assert_eq!(written, says.len());
        let refused = call.await.expect("no panic").expect_err("refused");
        let text = refused.to_string();
        assert!(text.contains(&address) && text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once() {
    let there = Node {
        name: "there".into(),
        // Nothing listens on the port of nothing.
        address: "127.0.0.1:1".into(),
    };
    let peers = TcpPeers::new(credentials(b"a secret", 1));
    let call = peers.call(&there, Bytes::from_static(b"hello"));
    let refused = tokio::time::timeout(Duration::from_secs(30), call).await;
    refused.expect("at once").expect_err("nobody");
}

#[tokio::test]
async fn a_stranger_with_a_huge_frame_is_sent_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let there = turning(b"a secret").await;
    let mut stranger = tokio::net::TcpStream::connect(&*there.address)
        .await
        .expect("there");
    stranger.write_all(&[0xFF; 64]).await.expect("sent");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), stranger.read_to_end(&mut rest));
    // Closed or reset: nothing was said.
    let _ended = closed.await.expect("at once");
    assert!(rest.is_empty());
}

/// Passes each connection on to a member, up to so many bytes; says when it has passed on as many and holds the rest back.
async fn valve(there: &Node, bytes: u64) -> (Node, Arc<tokio::sync::Notify>) {
    use tokio::io::AsyncReadExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (member, shut) = (there.address.clone(), Arc::<tokio::sync::Notify>::default());
    let told = Arc::clone(&shut);
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.expect("a connection");
            let far = TcpStream::connect(&*member).await.expect("there");
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let (from_near, mut to_near) = near.into_split();
                let (mut from_far, mut to_far) = far.into_split();
                let mut open = from_near.take(bytes);
                let forth = async {
                    let passed = tokio::io::copy(&mut open, &mut to_far).await;
                    let is_shut = passed.is_ok_and(|passed| passed == bytes);
                    is_shut.then(|| told.notify_one());
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = forth => {}
                    _closed = tokio::io::copy(&mut from_far, &mut to_near) => {}
                }
            });
        }
    });
    let valve = Node {
        name: "there".into(),
        address: address.into(),
    };
    (valve, shut)
}

#[tokio::test]
async fn no_call_waits_behind_a_larger_one_nor_behind_one_that_was_given_up() {
    let there = turning(b"a secret").await;
    let (there, shut) = valve(&there, 1 << 20).await;
    let peers = TcpPeers::new(credentials(b"a secret", 1));
    // More than the system's buffers take.
    let large = tokio::spawn(peers.call(&there, vec![1; 64 << 20].into()));
    shut.notified().await;
    let small = peers.call(&there, Bytes::from_static(b"hello")).await;
    assert_eq!(small.as_deref(), Ok(&b"olleh"[..]));
    large.abort();
    assert!(large.await.expect_err("held back").is_cancelled());
    let other = vec![2; 512 << 10];
    let refused = peers.call(&there, other.clone().into()).await;
    let error = refused.expect_err("the connection ends").to_string();
    assert!(error.contains("a call was given up"), "{error}");
    let answer = peers.call(&there, other.clone().into()).await;
    assert_eq!(answer.as_deref(), Ok(&other[..]), "over another one");
}
