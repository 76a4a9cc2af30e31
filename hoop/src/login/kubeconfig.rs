//! A kubeconfig for everybody who logs in at an issuer: it holds no credential, so it can be handed around.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_proxy::certificates_from_pem;
use serde_json::json;
use url::Url;

use super::settings::{LoginArgs, REDIRECT_URIS, Settings, read};

/// What people read who do not have this program.
const INSTALL_HINT: &str = "hoop is not on the PATH. It logs you in at the gateway: ask whoever gave you this file, or build it with cargo.";

/// The lines of the file. The error says what is wrong with the arguments.
pub(super) fn lines(settings: &Settings, args: &LoginArgs) -> Result<Vec<String>, String> {
    let server = args.server.as_deref().unwrap_or_default();
    match Url::parse(server) {
        Ok(url) if url.scheme() == "https" && url.has_host() => {}
        _ => return Err(format!("--server: {server:?} is no https:// URL")),
    }
    let authority = match &args.certificate_authority {
        Some(file) => {
            let pem = read(file, "--certificate-authority")?;
            certificates_from_pem(pem.as_bytes())
                .map_err(|error| format!("--certificate-authority: {}: {error}", file.display()))?;
            Some(STANDARD.encode(pem))
        }
        None => None,
    };
    let name = quoted(&args.name);
    let mut lines = vec![
        "apiVersion: v1".to_owned(),
        "kind: Config".to_owned(),
        format!("current-context: {name}"),
        "clusters:".to_owned(),
        format!("- name: {name}"),
        "  cluster:".to_owned(),
        format!("    server: {}", quoted(server)),
    ];
    lines.extend(authority.map(|data| format!("    certificate-authority-data: {data}")));
    lines.extend([
        "contexts:".to_owned(),
        format!("- name: {name}"),
        format!("  context: {{cluster: {name}, user: {name}}}"),
        "users:".to_owned(),
        format!("- name: {name}"),
        "  user:".to_owned(),
        "    exec:".to_owned(),
        "      apiVersion: client.authentication.k8s.io/v1".to_owned(),
        "      command: hoop".to_owned(),
        "      args:".to_owned(),
    ]);
    lines.extend(
        arguments(settings, args)
            .iter()
            .map(|argument| format!("      - {}", quoted(argument))),
    );
    lines.extend([
        format!("      installHint: {}", quoted(INSTALL_HINT)),
        "      interactiveMode: IfAvailable".to_owned(),
        "      provideClusterInfo: false".to_owned(),
    ]);
    Ok(lines)
}

/// What kubectl runs `hoop` with.
fn arguments(settings: &Settings, args: &LoginArgs) -> Vec<String> {
    let mut arguments = vec![
        "login".to_owned(),
        format!("--issuer={}", settings.issuer),
        format!("--client-id={}", settings.client_id),
    ];
    arguments.extend(args.scopes.iter().map(|scope| format!("--scope={scope}")));
    if args.redirect_uris != REDIRECT_URIS {
        let uris = args.redirect_uris.iter();
        arguments.extend(uris.map(|uri| format!("--redirect-uri={uri}")));
    }
    if let Some(pem) = &settings.issuer_ca {
        arguments.push(format!("--issuer-ca-data={}", STANDARD.encode(pem)));
    }
    if settings.device {
        arguments.push("--device".to_owned());
    }
    arguments
}

/// A text in YAML, which takes JSON's.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
