//! What each kind of event adds to the envelope, one module per subject.

pub mod approval;
pub mod integrity;
pub mod recorder;
pub mod request;
pub mod session;
pub mod stream;
