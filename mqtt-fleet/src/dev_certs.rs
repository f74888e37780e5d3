//! `mqtt-fleet dev-certs DIR`: certificates to try TLS with, towards devices and between nodes, and a key file for session
//! tickets.
//!
//! For trying only: the CA's key lies beside what it signed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use proxy::tls::{TicketKeyError, new_ticket_key};

use crate::exit::{Exit, complain};

/// Where certificates go, and for whom.
#[derive(Debug, Args)]
pub(crate) struct DevCertsArgs {
    /// Folder to put them in; what is there already is not overwritten
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A further name or address of the server and of nodes, beside localhost, 127.0.0.1 and `::1`; may be given again
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Name in the client's certificate
    #[arg(long, value_name = "NAME", default_value = "dev-client")]
    client: String,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
enum DevCertsError {
    /// A file of that name is there.
    #[error(
        "{} exists and is not overwritten; remove it, or give another folder", path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The folder or a file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name cannot stand in a certificate.
    #[error("--host {host}: {source}")]
    Host {
        /// The name.
        host: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The cryptographic library fails.
    #[error("cannot make a certificate: {0}")]
    Made(#[from] rcgen::Error),
    /// There are no random bytes.
    #[error(transparent)]
    TicketKey(#[from] TicketKeyError),
}

/// The names of the files, in the order in which they are written.
const FILES: [&str; 9] = [
    "ca.pem",
    "ca.key",
    "server.pem",
    "server.key",
    "client.pem",
    "client.key",
    "fleet.pem",
    "fleet.key",
    "tickets.key",
];

/// Makes certificates for the nodes of a fleet on this machine, unless the folder has some. What goes wrong is a
/// sentence.
pub(crate) fn for_fleet(dir: &Path) -> Result<(), String> {
    if FILES.iter().all(|name| dir.join(name).exists()) {
        return Ok(());
    }
    let args = DevCertsArgs {
        dir: dir.to_owned(),
        hosts: Vec::new(),
        client: "dev-client".to_owned(),
    };
    make(&args).map_err(|error| error.to_string())
}

/// Runs the command.
pub(crate) fn run(args: &DevCertsArgs) -> Exit {
    match make(args) {
        Ok(()) => {
            print!("{}", instructions(&args.dir));
            Exit::Fine
        }
        Err(error @ DevCertsError::Host { .. }) => complain(Exit::Usage, error),
        Err(error) => complain(Exit::Failed, error),
    }
}

fn make(args: &DevCertsArgs) -> Result<(), DevCertsError> {
    let texts = certificates(args)?;
    let paths = FILES.map(|name| args.dir.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(DevCertsError::Exists { path: path.clone() });
    }
    let unwritable = |path: &Path, source| DevCertsError::Unwritable {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(&args.dir).map_err(|source| unwritable(&args.dir, source))?;
    for (path, text) in paths.iter().zip(&texts) {
        write(path, text).map_err(|source| unwritable(path, source))?;
    }
    Ok(())
}

/// Writes a file that must not exist; keys are for their owner only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let secret = path.extension().is_some_and(|extension| extension == "key");
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if secret { 0o600 } else { 0o644 })
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// The texts of [`FILES`].
fn certificates(args: &DevCertsArgs) -> Result<[String; 9], DevCertsError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = params("mqtt-fleet development CA", &[])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, &ca_key);

    let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names = hosts.to_vec();
    for host in &args.hosts {
        // Alone, so that the error is about this one.
        params(host, std::slice::from_ref(host)).map_err(|source| DevCertsError::Host {
            host: host.clone(),
            source,
        })?;
        names.push(host.clone());
    }
    // A node of a fleet is both: brokers are the servers of links, proxies the clients.
    let both = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let server = leaf("localhost", &names, &both[..1])?;
    let client = leaf(&args.client, &[], &both[1..])?;
    let fleet = leaf("mqtt-fleet node", &names, &both)?;
    let server_key = KeyPair::generate()?;
    let client_key = KeyPair::generate()?;
    let fleet_key = KeyPair::generate()?;
    Ok([
        ca_pem,
        ca_key.serialize_pem(),
        server.signed_by(&server_key, &issuer)?.pem(),
        server_key.serialize_pem(),
        client.signed_by(&client_key, &issuer)?.pem(),
        client_key.serialize_pem(),
        fleet.signed_by(&fleet_key, &issuer)?.pem(),
        fleet_key.serialize_pem(),
        format!(
            "# Keys of session tickets; the first seals, all open. A new one: openssl rand -hex 32\n{}\n",
            new_ticket_key()?
        ),
    ])
}

fn leaf(
    common_name: &str,
    names: &[String],
    purposes: &[ExtendedKeyUsagePurpose],
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(common_name, names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes.to_vec();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(common_name: &str, names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    // A device without a clock thinks that it is some years ago.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    Ok(params)
}

/// What to do with the files, ready to be copied.
fn instructions(dir: &Path) -> String {
    let dir = dir.display();
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("writing to a String cannot fail");
    };
    line(format_args!(
        "Certificates for trying, not for production, are in {dir}: {}.",
        FILES.join(", ")
    ));
    line(format_args!("A broker with them is configured so:\n"));
    line(format_args!("[tls]"));
    line(format_args!("listen = \"127.0.0.1:8883\""));
    line(format_args!("certificate = \"{dir}/server.pem\""));
    line(format_args!("key = \"{dir}/server.key\""));
    line(format_args!("ticket_key_file = \"{dir}/tickets.key\""));
    line(format_args!(
        "# client_ca = \"{dir}/ca.pem\"           # and, to demand certificates of clients:"
    ));
    line(format_args!("# client_certificates = \"required\"\n"));
    line(format_args!("Try it:"));
    let common = format!("-h localhost -p 8883 --cafile {dir}/ca.pem");
    line(format_args!("  mosquitto_sub {common} -t 'test/#' -v"));
    line(format_args!(
        "  mosquitto_pub {common} -t test/hello -m world -q 1"
    ));
    line(format_args!(
        "With a certificate of the client: --cert {dir}/client.pem --key {dir}/client.key"
    ));
    line(format_args!(
        "Brokers and proxies of a fleet with TLS between them, each with:\n"
    ));
    line(format_args!("[link_tls]"));
    line(format_args!("ca = \"{dir}/ca.pem\""));
    line(format_args!("certificate = \"{dir}/fleet.pem\""));
    line(format_args!("key = \"{dir}/fleet.key\""));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path, hosts: &[&str]) -> DevCertsArgs {
        DevCertsArgs {
            dir: dir.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            client: "pump-7".to_owned(),
        }
    }

    fn read(folder: &Path) -> Vec<String> {
        let read = |name| std::fs::read_to_string(folder.join(name)).expect("written");
        FILES.map(read).to_vec()
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        make(&args(folder.path(), &[])).expect("made");
        let before = read(folder.path());
        std::fs::remove_file(folder.path().join("ca.pem")).expect("there");
        let error = make(&args(folder.path(), &[])).expect_err("the others are there");
        assert!(
            error
                .to_string()
                .contains("ca.key exists and is not overwritten")
        );
        assert!(
            !folder.path().join("ca.pem").exists(),
            "nothing is half made"
        );
        std::fs::write(folder.path().join("ca.pem"), &before[0]).expect("writable");
        assert_eq!(read(folder.path()), before);
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        make(&args(folder.path(), &["broker.example", "192.0.2.7"])).expect("made");
        for name in FILES
            .iter()
            .filter(|name| Path::new(name).extension() == Some("key".as_ref()))
        {
            let metadata = std::fs::metadata(folder.path().join(name)).expect("written");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_host_that_is_no_name_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let error =
            make(&args(folder.path(), &["good.example", "schlüssel"])).expect_err("not ASCII");
        assert!(
            error.to_string().starts_with("--host schlüssel:"),
            "{error}"
        );
    }
}
