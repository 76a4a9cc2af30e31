//! The connection to a bucket: settings and credentials as every tool for AWS finds them, and found again when the
//! credentials are no longer taken.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::failure::{Failure, Meaning};
use crate::store::place::BucketOptions;

/// Tries of one read. With the SDK's pauses of up to a second and its budget for retries this rides out a node that
/// restarts; longer trouble is for the caller, who knows how long it may wait.
const READ_ATTEMPTS: u32 = 4;

/// A server that is there answers a connection sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one try of a request without a body to send. A listing of a thousand keys takes a second at worst.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Credentials are looked for again at most this often, so that a wrong key does not become a storm of look-ups.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// The region that servers other than AWS take for theirs when nobody named one.
const REGION_OF_OTHERS: &str = "us-east-1";

/// A client, and how to make a new one.
pub(super) struct Connection {
    options: BucketOptions,
    current: Mutex<(Client, Instant)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) async fn open(options: &BucketOptions) -> Self {
        Self {
            options: options.clone(),
            current: Mutex::new((client(options).await, Instant::now())),
        }
    }

    /// The client of now.
    pub(super) fn client(&self) -> Client {
        self.current.lock().0.clone()
    }

    /// Asks something; once more with credentials found anew, when those at hand are not taken.
    pub(super) async fn ask<T, E, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match ask(self.client()).await.map_err(Failure::of) {
            Err(failure) if failure.meaning == Meaning::Credentials && self.renew().await => {
                ask(self.client()).await.map_err(Failure::of)
            }
            answer => answer,
        }
    }

    /// Finds the credentials anew, unless that was done just now. The SDK itself does so only when they say when they
    /// expire, and reads files once.
    pub(super) async fn renew(&self) -> bool {
        if self.current.lock().1.elapsed() < RENEW_PAUSE {
            return false;
        }
        let client = client(&self.options).await;
        *self.current.lock() = (client, Instant::now());
        true
    }
}

async fn client(options: &BucketOptions) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region(options))
        .retry_config(RetryConfig::standard().with_max_attempts(READ_ATTEMPTS))
        .timeout_config(timeouts)
        // Puts carry a SHA-256 of their own. Other sums are what servers that are not AWS stumble over.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(file) = &options.credentials_file {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, file)
            .build();
        let provider = ProfileFileCredentialsProvider::builder().profile_files(files);
        loader = loader.credentials_provider(provider.build());
    }
    let shared = loader.load().await;
    let path_style = options.path_style.unwrap_or_else(|| {
        // The variable of S3 alone is one that only the SDK's S3 client reads, so it does not show here.
        options.endpoint.is_some()
            || shared.endpoint_url().is_some()
            || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some()
    });
    let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(path_style);
    Client::from_conf(config.build())
}

/// The region: as told, as of the environment and the profile, and else as the machine knows it. A server of one's own
/// has no machine to ask.
fn region(options: &BucketOptions) -> RegionProviderChain {
    let chain = RegionProviderChain::first_try(options.region.clone().map(Region::new));
    if options.endpoint.is_none() {
        return chain.or_default_provider();
    }
    chain
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::from_static(REGION_OF_OTHERS))
}
