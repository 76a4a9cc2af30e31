//! The gateway in front of the Kubernetes API.

pub mod mask;
pub mod policy;
pub mod record;
pub mod request_info;
pub mod sample_cluster;
