//! The binary `hoop` as a library: the whole pipeline on one machine, its configuration, and the demonstration.
//!
//! # Where to look
//! [`pipeline`] puts gateway, log and recorder together; [`up`] runs them until told to stop; [`demo`] shows them at
//! work; [`check`] says what is wrong before a socket opens. [`config`] reads the configuration, [`data_dir`] knows
//! where everything is, [`authority`] is the small certificate authority behind the kubeconfigs of [`kubeconfig`].
//! [`key`] keeps what signs the evidence. [`sessions`] lists who is at work and ends it. [`store`] writes the rights that a bucket of evidence wants. [`login`] is another program altogether, the one that people have beside their kubectl.

pub mod authority;
mod background;
pub mod check;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod exit;
pub mod key;
pub mod kubeconfig;
pub mod login;
pub mod logs;
pub mod output;
pub mod pipeline;
pub mod policy;
pub mod program;
pub mod sessions;
pub mod store;
pub mod up;
