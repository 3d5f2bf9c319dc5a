//! How does the port speak TLS, and how does a renewed certificate come into use? The files are read again when they
//! change; a broken one changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::metrics::Metrics;

/// The largest certificate or key file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A certificate and its key, as ACME clients write them (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that vouch for it (`fullchain.pem`).
    pub cert: PathBuf,
    /// Its private key (`privkey.pem`): PKCS#8, PKCS#1 or SEC1, without a password.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({source}): name a file that this user may read", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error("{} has no certificate in it: --tls-cert is a PEM file with the certificate and its chain", file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// There is no key in the file.
    #[error("{} has no private key in it: --tls-key is a PEM file with a key without a password", file.display())]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// The two cannot be used, or do not belong together.
    #[error("the certificate {} and the key {} do not go together ({source})", cert.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Has a running server read its certificate anew.
#[derive(Clone, Debug)]
pub struct TlsReload(Arc<Certificate>);

impl TlsReload {
    /// Reads the files; whether they had changed. If they cannot be used, the server goes on with what it has. Both is in
    /// the metrics (`coplay_tls_reloads_total`), whoever had it done.
    ///
    /// # Errors
    /// The files cannot be read, or what is in them cannot be used. A broken one that did not change since is no error again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let done = self.read_anew();
        match &done {
            Ok(true) => self.0.metrics.tls_reloads.add("ok", 1),
            Ok(false) => (),
            Err(_) => self.0.metrics.tls_reloads.add("failed", 1),
        }
        done
    }

    fn read_anew(&self) -> Result<bool, TlsError> {
        let files = self.0.files.read()?;
        let mut current = self.0.lock();
        if current.read == files {
            return Ok(false);
        }
        // Not read again until it changes again, if it is broken.
        let certified = self.0.files.certify(&files);
        current.read = files;
        current.certified = certified?;
        Ok(true)
    }
}

/// The server's end of TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.certificate.files).finish()
    }
}

impl Tls {
    pub(crate) fn new(files: TlsFiles, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let read = files.read()?;
        let certified = files.certify(&read)?;
        let unusable = |source| TlsError::Unusable { cert: files.cert.clone(), key: files.key.clone(), source };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth();
        let certificate = Arc::new(Certificate { files, current: Mutex::new(Current { read, certified }), metrics });
        let mut config = builder.with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    pub(crate) fn reload(&self) -> TlsReload {
        TlsReload(self.certificate.clone())
    }
}

/// What is shown to who connects.
#[derive(Debug)]
struct Certificate {
    files: TlsFiles,
    current: Mutex<Current>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Current {
    /// What the files had in them when they were read last.
    read: Read,
    certified: Arc<CertifiedKey>,
}

impl Certificate {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.lock().certified.clone())
    }
}

#[derive(PartialEq, Eq)]
struct Read {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read(..)")
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Read, TlsError> {
        Ok(Read { cert: read(&self.cert)?, key: read(&self.key)? })
    }

    fn certify(&self, read: &Read) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read.cert).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| TlsError::NoCertificate { file: self.cert.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(|_| TlsError::NoKey { file: self.key.clone() })?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|source| {
            let (cert, key) = (self.cert.clone(), self.key.clone());
            TlsError::Unusable { cert, key, source }
        })?;
        Ok(Arc::new(certified))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { file: file.to_owned(), source };
    if fs::metadata(file).map_err(failed)?.len() > MAX_FILE {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    fs::read(file).map_err(failed)
}

/// Ring, which `turn` stands on already.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
