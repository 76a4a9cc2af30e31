//! The gateway in front of the Kubernetes API.
