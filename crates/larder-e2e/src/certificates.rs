//! Certificates of a test's own, made by openssl: an authority, a server's and a client's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::run;
use crate::scratch::Scratch;

/// A directory with `ca-cert.pem`, `server-cert.pem`, `server-key.pem`, `client-cert.pem` and
/// `client-key.pem`, as nbdkit, libnbd, qemu and larder name them. The server is `localhost` and
/// 127.0.0.1.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them in the directory `name` of the scratch.
    #[must_use]
    pub fn make(scratch: &Scratch, name: &str) -> Self {
        let directory = scratch.make_dir(name);
        let certificates = Self { directory };
        certificates.sign("ca", "basicConstraints=critical,CA:true");
        certificates.sign(
            "server",
            "basicConstraints=CA:false\nsubjectAltName=DNS:localhost,IP:127.0.0.1",
        );
        certificates.sign(
            "client",
            "basicConstraints=CA:false\nextendedKeyUsage=clientAuth",
        );
        certificates
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of the files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A directory with only the authority's certificate: what a client without a name has.
    #[must_use]
    pub fn anonymous(&self) -> PathBuf {
        let directory = self.directory.with_extension("anonymous");
        fs::create_dir(&directory).expect("a directory");
        fs::copy(self.file("ca-cert.pem"), directory.join("ca-cert.pem")).expect("a copy");
        directory
    }

    /// A key, and a certificate for it with those extensions. The authority's signs itself.
    fn sign(&self, who: &str, extensions: &str) {
        let configuration = self.file(&format!("{who}.cnf"));
        let text = format!(
            "[req]\nprompt=no\ndistinguished_name=name\nx509_extensions=extensions\n\
             [name]\nCN=larder-e2e {who}\n[extensions]\n{extensions}\n"
        );
        fs::write(&configuration, text).expect("openssl's configuration");
        let path = |name: String| self.file(&name).display().to_string();
        let (key, certificate) = (
            path(format!("{who}-key.pem")),
            path(format!("{who}-cert.pem")),
        );
        let configuration = configuration.display().to_string();
        let (authority, authority_key) = (path("ca-cert.pem".into()), path("ca-key.pem".into()));
        let mut arguments = vec!["req", "-x509", "-new", "-config", &configuration];
        arguments.extend([
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]);
        arguments.extend(["-days", "2", "-keyout", &key, "-out", &certificate]);
        if who != "ca" {
            arguments.extend(["-CA", &authority, "-CAkey", &authority_key]);
        }
        run("openssl", arguments);
    }
}
