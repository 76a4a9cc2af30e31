//! The gateway in front of the Kubernetes API: it knows who asks, applies policy, masks secrets, and records every
//! request before it has an effect.
//!
//! Begin reading at `gateway`: it is the course of one request, with a pointer to the module of each step. [`build`]
//! puts a gateway together from a [`Config`], [`Gateway::run`] serves until it is told to stop.

mod admin;
mod answer;
mod authenticate;
mod config;
pub mod endings;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod https_client;
mod impersonation;
mod lifetime;
mod listener;
pub mod mask;
mod metrics;
pub mod policy;
mod policy_in_force;
mod protobuf;
pub mod record;
mod request_body;
pub mod request_info;
mod revocations;
pub mod sample_cluster;
mod server;
mod status;
pub mod tunnel;
mod upstream;
mod webhooks;
pub mod yaml;

pub use admin::{Admin, Readiness};
pub use authenticate::{
    AuthenticationConfiguration, AuthenticationError, AuthenticationErrors, IssuerOpenError,
    IssuerProbe, RevocationError, StaticTokens, TokenFileError, unverified_claims,
};
pub use config::{
    Config, Limits, PemError, PolicySource, ServerIdentity, UpstreamSource, certificates_from_pem,
};
pub use https_client::{HttpsClient, HttpsError, HttpsSetupError};
pub use listener::ListenError;
pub use policy_in_force::PolicyError;
pub use server::{BuildError, Gateway, PolicyReloader, build};
pub use upstream::UpstreamConfigError;
pub use webhooks::{WebhookError, WebhookProbe, probe_webhooks};
