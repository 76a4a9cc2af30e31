//! `hoop store`: what a bucket of evidence wants around it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hoop_sinks::store::s3::policy::{Document, Plan};
use hoop_sinks::store::{BucketOptions, Place};

use crate::config::{Config, Environment, Overrides};
use crate::exit::ExitCode;
use crate::output::{self, Line, Printer};

/// Stands for the retention role until somebody says which it is.
const RETENTION_ROLE: &str = "arn:aws:iam::123456789012:role/hoop-retention";

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Print a policy of a role, of the bucket, or its lifecycle rules, as JSON for S3
    Policy(PolicyArgs),
}

/// Arguments of `store policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// For whom
    #[arg(value_enum)]
    pub document: DocumentName,
    /// Configuration that says where evidence is kept, and how long
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where evidence is kept; wins over the configuration
    #[arg(long, value_name = "s3://...")]
    pub evidence: Option<Place>,
    /// Where the keys of encrypted content are kept; wins over the configuration
    #[arg(long, value_name = "s3://...")]
    pub keys: Option<Place>,
    /// The evidence is locked; so it is where the configuration says evidence.object_lock
    #[arg(long)]
    pub object_lock: bool,
    /// The server is not AWS: leave out the conditions that only AWS knows; so it is where the configuration names an
    /// endpoint
    #[arg(long)]
    pub plain: bool,
    /// The role that alone may delete
    #[arg(long, value_name = "ARN", default_value = RETENTION_ROLE)]
    pub retention_role: String,
}

/// Which document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DocumentName {
    /// Policy of the role that records: it creates and reads, and deletes nothing
    Recorder,
    /// Policy of the role that reads
    Reader,
    /// Policy of the role that deletes what is past its term, and sets legal holds
    Retention,
    /// Policy of the bucket
    Bucket,
    /// Lifecycle rules of the bucket
    Lifecycle,
    /// Policy of the gateways' role in the bucket of the keys of encrypted content: it creates and reads, and deletes
    /// nothing
    Keys,
    /// Policy of the role that destroys these keys, so that content is erased
    Eraser,
}

/// Does it.
///
/// # Errors
/// When the output cannot be written.
pub fn run(
    command: StoreCommand,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let StoreCommand::Policy(args) = command;
    let of_keys = matches!(args.document, DocumentName::Keys | DocumentName::Eraser);
    let found = match &args.config {
        Some(file) => match Config::load(Some(file), Overrides::default(), environment) {
            Ok(config) => {
                let terms = config.terms();
                let keys = config.encryption.map(|e| (Some(e.keys), e.bucket));
                let evidence = (config.evidence.place, config.evidence.bucket);
                Some((
                    if of_keys {
                        keys.unwrap_or_default()
                    } else {
                        evidence
                    },
                    terms,
                ))
            }
            Err(error) => {
                output::notice(&error.to_string());
                return Ok(ExitCode::Usage);
            }
        },
        None => None,
    };
    let ((configured, bucket), terms) =
        found.unwrap_or_else(|| ((None, BucketOptions::default()), BTreeMap::new()));
    let named = if of_keys { args.keys } else { args.evidence };
    let Some(Place::Bucket(place)) = named.or(configured) else {
        let (option, key) = match of_keys {
            true => ("--keys", "encryption.keys"),
            false => ("--evidence", "evidence.place"),
        };
        output::notice(&format!(
            "only a bucket has policies: name it with {option} s3://BUCKET/PREFIX, or with {key} in a file for --config"
        ));
        return Ok(ExitCode::Usage);
    };
    let plan = Plan {
        place: &place,
        object_lock: args.object_lock || bucket.object_lock,
        aws: !args.plain && bucket.endpoint.is_none(),
        terms: &terms,
        retention_role: &args.retention_role,
    };
    let document = plan.document(match args.document {
        DocumentName::Recorder => Document::Recorder,
        DocumentName::Reader => Document::Reader,
        DocumentName::Retention => Document::Retention,
        DocumentName::Bucket => Document::Bucket,
        DocumentName::Lifecycle => Document::Lifecycle,
        DocumentName::Keys => Document::Keys,
        DocumentName::Eraser => Document::Eraser,
    });
    let text = serde_json::to_string_pretty(&document).map_err(io::Error::other)?;
    for line in text.lines() {
        printer.line(&Line::plain(line))?;
    }
    Ok(ExitCode::Success)
}
