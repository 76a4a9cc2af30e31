//! `hoop policy rbac`: the gateway's own rights in the cluster.

use std::io;
use std::path::PathBuf;

use clap::Args;
use hoop_proxy::policy::GatewayRights;

use super::load;
use crate::exit::ExitCode;
use crate::output::{self, Line, Printer};

/// Arguments of `policy rbac`.
#[derive(Debug, Args)]
pub struct RightsArgs {
    /// The policy
    pub file: PathBuf,
    /// Name of the roles and bindings
    #[arg(long, default_value = "hoop-gateway")]
    pub name: String,
    /// The gateway's service account, as NAMESPACE:NAME
    #[arg(long, default_value = "hoop:hoop-gateway", value_parser = service_account)]
    pub service_account: (String, String),
    /// User who comes by a group, so that the policy does not name them; once for each
    #[arg(long = "user", value_name = "USER")]
    pub users: Vec<String>,
    /// Group that people are in and the policy does not name; once for each
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Key that the login adds to people; once for each
    #[arg(long = "extra", value_name = "KEY")]
    pub extra: Vec<String>,
    /// Allow every user name, since they are not known beforehand
    #[arg(long)]
    pub any_user: bool,
}

pub(super) fn run(args: &RightsArgs, printer: &mut Printer) -> io::Result<ExitCode> {
    let policy = match load(&args.file) {
        Ok(policy) => policy,
        Err(mistakes) => {
            output::notice(&mistakes);
            return Ok(ExitCode::Usage);
        }
    };
    let rights = GatewayRights {
        name: args.name.clone(),
        service_account: args.service_account.clone(),
        users: args.users.clone(),
        groups: args.groups.clone(),
        extra: args.extra.clone(),
        any_user: args.any_user,
    };
    for line in policy.gateway_rights(&rights).lines() {
        printer.line(&Line::plain(line))?;
    }
    Ok(ExitCode::Success)
}

fn service_account(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE:NAME".to_owned()),
    }
}
