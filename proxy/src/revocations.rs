//! The file of revocation lists: read at the start, where it has to be right, and whenever its bytes change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::authenticate::{CertificateAuthenticator, RevocationError};
use crate::endings::Endings;

/// A file, and who has to know what is in it.
#[derive(Debug)]
pub(crate) struct Revocations {
    file: PathBuf,
    interval: Duration,
    certificates: CertificateAuthenticator,
    /// Tells what is open to look whether its certificate is revoked.
    endings: Arc<Endings>,
    read: Vec<u8>,
    /// Whether the last look found nothing in it.
    emptied: bool,
}

impl Revocations {
    /// Reads the file for the first time.
    pub(crate) async fn open(
        file: PathBuf,
        interval: Duration,
        certificates: CertificateAuthenticator,
        endings: Arc<Endings>,
    ) -> Result<Self, RevocationError> {
        let mut revocations = Self {
            file,
            interval,
            certificates,
            endings,
            read: Vec::new(),
            emptied: false,
        };
        revocations.reload().await?;
        Ok(revocations)
    }

    /// Looks at the file now and then. What cannot be used changes nothing. Never returns.
    pub(crate) async fn watch(mut self) {
        loop {
            tokio::time::sleep(self.interval).await;
            if let Err(error) = self.reload().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the revocation lists could not be read again; those from before stay in force"
                );
            }
        }
    }

    async fn reload(&mut self) -> Result<(), RevocationError> {
        let pem = tokio::fs::read(&self.file)
            .await
            .map_err(RevocationError::Read)?;
        // Whoever writes the file anew empties it first: nobody is pardoned for having been looked at in between.
        let emptied = pem.trim_ascii().is_empty() && !self.read.is_empty();
        if emptied && !std::mem::replace(&mut self.emptied, emptied) {
            return Ok(());
        }
        self.emptied = emptied;
        if pem != self.read {
            self.certificates.revoke(&pem)?;
            self.endings.look_again();
            self.read = pem;
        }
        Ok(())
    }
}
