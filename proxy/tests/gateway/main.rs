//! The gateway as it runs in production, in front of the sample cluster or of an upstream that misbehaves on purpose.

mod admin;
mod credentials;
mod forwarding;
mod harness;
mod listener;
mod masking;
mod recording;
mod refusals;
mod reload;
mod streams;
