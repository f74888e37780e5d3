//! Login and TLS: what is right works, what is wrong is said in one sentence that names the setting.

mod common;

use std::path::Path;

use common::device;
use common::server::{PATIENCE, PERMISSIONS, Server, block_on, config};
use mqtt_fleet_session_store::{RedisConfig, RedisMode, RedisStore, SessionStore, StoreError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// What a store says that cannot reach its server with these settings.
fn refusal(config: RedisConfig) -> String {
    let store = RedisStore::start(config).expect("a store starts");
    // Until the outage is noticed a load ends with its time.
    loop {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let wait = std::time::Duration::from_millis(50);
        store.load_later("device-000001", wait, move |loaded| {
            answer.send(loaded).expect("somebody waits");
        });
        match answered.recv_timeout(PATIENCE).expect("called") {
            Err(StoreError::Unavailable(why)) if !why.starts_with("no answer") => return why,
            Err(StoreError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn works(config: RedisConfig, epoch: u64) {
    let store = RedisStore::start(config).expect("a store starts");
    let record = device(1, epoch);
    block_on(store.save(&record)).expect("saved");
    let loaded = block_on(store.load("device-000001")).expect("an answer");
    assert_eq!(loaded, Some(record));
    assert_eq!(block_on(store.count()).expect("an answer"), 1);
    assert!(block_on(store.delete("device-000001", epoch)).expect("an answer"));
}

#[test]
fn users_and_passwords() {
    let server = Server::start(&[]);
    let mut rules = vec!["ACL", "SETUSER", "fleet", "on", ">hush"];
    rules.extend(PERMISSIONS);
    server.ask::<()>(&rules);
    server.ask::<()>(&["ACL", "SETUSER", "reader", "on", ">hush", "~*", "+ping"]);
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "secret"]);
    let login = |user: Option<&str>, password: Option<&str>| RedisConfig {
        user: user.map(str::to_owned),
        password: password.map(str::to_owned),
        ..server.config()
    };
    works(login(Some("fleet"), Some("hush")), 1);
    works(login(None, Some("secret")), 2);
    let none = refusal(login(None, None));
    assert!(
        none.contains("NOAUTH") && none.contains("set redis.password"),
        "{none}"
    );
    for (user, password) in [
        (Some("fleet"), "wrong"),
        (Some("nobody"), "hush"),
        (None, "wrong"),
    ] {
        let wrong = refusal(login(user, Some(password)));
        assert!(
            wrong.contains("correct redis.user and redis.password"),
            "{wrong}"
        );
        assert!(
            !wrong.contains("hush") && !wrong.contains("secret"),
            "{wrong}"
        );
    }
    let forbidden = refusal(login(Some("reader"), Some("hush")));
    assert!(forbidden.contains("needs the permissions"), "{forbidden}");
}

/// Writes a new authority, and a server certificate of it for this host.
fn certificates(folder: &Path, authority: &str, host: &str) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
    let server = params.signed_by(&key, &ca).expect("a certificate");
    let write = |name: String, pem: String| {
        std::fs::write(folder.join(name), pem).expect("writable");
    };
    write(format!("{authority}.ca.pem"), ca.pem());
    write(format!("{authority}.pem"), server.pem());
    write(format!("{authority}.key.pem"), key.serialize_pem());
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path(), "ours", "127.0.0.1");
    certificates(folder.path(), "theirs", "127.0.0.1");
    certificates(folder.path(), "elsewhere", "redis.example");
    let path = |name: &str| folder.path().join(name);
    let server = |name: &str| {
        let path = |end: &str| path(&format!("{name}{end}")).display().to_string();
        let (ca, certificate, key) = (path(".ca.pem"), path(".pem"), path(".key.pem"));
        let folder = tempfile::tempdir().expect("a folder");
        Server::start_with(folder, move |port| {
            let port = port.to_string();
            let arguments = [
                "--port",
                "0",
                "--tls-port",
                &port,
                "--tls-auth-clients",
                "no",
                "--tls-ca-cert-file",
                &ca,
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
            ];
            arguments.map(str::to_owned).into()
        })
    };
    let trusting = |server: &Server, ca: Option<&str>| RedisConfig {
        ca_file: ca.map(path),
        ..config(
            RedisMode::Single,
            [format!("rediss://127.0.0.1:{}", server.port())],
        )
    };
    let ours = server("ours");
    works(trusting(&ours, Some("ours.ca.pem")), 3);
    let stranger = refusal(trusting(&ours, Some("theirs.ca.pem")));
    assert!(
        stranger.contains("is redis.ca_file the authority"),
        "{stranger}"
    );
    let unknown = refusal(trusting(&ours, None));
    assert!(unknown.contains("redis.ca_file"), "{unknown}");
    let elsewhere = refusal(trusting(&server("elsewhere"), Some("elsewhere.ca.pem")));
    assert!(elsewhere.contains("certificate"), "{elsewhere}");
    // Plain text to a TLS port.
    let plain = refusal(config(RedisMode::Single, [ours.url()]));
    assert!(plain.contains(&ours.url()), "{plain}");
}
