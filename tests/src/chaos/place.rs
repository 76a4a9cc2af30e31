//! Where evidence is kept, and the bad line in front of it.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::testbed::{FaultProxy, Minio, Run};

/// The bucket.
const BUCKET: &str = "chaos";

/// Where evidence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlaceKind {
    /// A bucket of MinIO with Object Lock, behind a bad line.
    S3,
    /// A directory.
    Dir,
}

impl fmt::Display for PlaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::name_of(self, f)
    }
}

/// A place that is there.
#[derive(Debug)]
pub(super) enum Place {
    Dir(PathBuf),
    S3 {
        minio: Box<Minio>,
        line: FaultProxy,
        seed: u64,
    },
}

impl Place {
    pub(super) async fn start(run: &Run, kind: PlaceKind, name: &str, seed: u64) -> Result<Self> {
        match kind {
            PlaceKind::Dir => {
                let folder = run.folder().join(format!("{name}-evidence"));
                std::fs::create_dir_all(&folder)?;
                Ok(Self::Dir(folder))
            }
            PlaceKind::S3 => {
                let minio = tokio::task::block_in_place(|| {
                    let minio = Minio::start_as(run, name)?;
                    minio.make_bucket(BUCKET, true)?;
                    anyhow::Ok(Box::new(minio))
                })?;
                let line = FaultProxy::start(minio.address()).await?;
                Ok(Self::S3 { minio, line, seed })
            }
        }
    }

    /// The section `evidence` of a configuration.
    pub(super) fn section(&self) -> String {
        match self {
            Self::Dir(folder) => format!("evidence: {{place: '{}'}}", folder.display()),
            Self::S3 { minio, line, .. } => format!(
                "evidence: {{place: 's3://{BUCKET}/audit', endpoint: '{}', credentials_file: '{}'}}",
                line.url(),
                minio.root().display()
            ),
        }
    }

    /// From now on, of a thousand requests this many meet a fault.
    pub(super) fn misbehave(&self, per_thousand: u64) {
        if let Self::S3 { line, seed, .. } = self {
            line.misbehave(*seed, per_thousand);
        }
    }

    /// From now on, none does.
    pub(super) fn behave(&self) {
        self.misbehave(0);
    }

    /// Requests that came over the line.
    pub(super) fn requests(&self) -> u64 {
        match self {
            Self::Dir(_) => 0,
            Self::S3 { line, .. } => line.seen(),
        }
    }

    /// What `hoop-replay` has to be told to read it, past the line: arguments and environment.
    pub(super) fn for_readers(&self) -> (Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::Dir(folder) => {
                let arguments = vec!["--evidence".to_owned(), folder.display().to_string()];
                (arguments, Vec::new())
            }
            Self::S3 { minio, .. } => {
                let arguments = [
                    "--evidence",
                    &format!("s3://{BUCKET}/audit"),
                    "--s3-endpoint",
                    &minio.url(),
                ];
                let environment = vec![
                    (
                        "AWS_SHARED_CREDENTIALS_FILE",
                        minio.root().display().to_string(),
                    ),
                    ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                ];
                (arguments.map(str::to_owned).to_vec(), environment)
            }
        }
    }
}
