//! The gateway as it runs in production, in front of the sample cluster or of an upstream that misbehaves on purpose.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod admin;
mod attack;
mod authority;
mod canary;
mod credentials;
mod endings;
mod forwarding;
mod harness;
mod identity;
mod issuer;
mod listener;
mod masking;
mod masking_rules;
mod policy;
mod recording;
mod refusals;
mod reload;
mod streams;
mod tunnels;
mod webhooks;
mod websocket;
