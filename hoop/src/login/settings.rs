//! What a login is to be like: from the command line, checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hoop_proxy::certificates_from_pem;
use rustls::pki_types::CertificateDer;
use url::{Host, Url};

/// Where the discovery document of an issuer is (OpenID Connect Discovery 1.0 §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where the browser may come back to, one after the other as the ports are free. kubelogin uses the same two, so that
/// clients that were registered for it serve here.
pub(super) const REDIRECT_URIS: [&str; 2] = ["http://localhost:8000", "http://localhost:18000"];

/// The scope that makes a login one of OpenID Connect. Always asked for.
const OPENID: &str = "openid";

/// Arguments of `login`.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// The issuer, exactly as its tokens name it
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// The client that is registered there for this: public, with authorisation code and PKCE
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// What to ask for beside "openid"; once for each [default: email]
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        default_value = "email",
        hide_default_value = true
    )]
    pub scopes: Vec<String>,
    /// Who certifies the issuer, as a PEM file [default: the authorities of this machine]
    #[arg(long, value_name = "FILE")]
    pub issuer_ca: Option<PathBuf>,
    /// The same, as the PEM text in base64
    #[arg(long, value_name = "BASE64", conflicts_with = "issuer_ca")]
    pub issuer_ca_data: Option<String>,
    /// Where the browser comes back to, on this machine; without a port, any free one. Several are tried one after the
    /// other
    #[arg(long = "redirect-uri", value_name = "URL", default_values = REDIRECT_URIS)]
    pub redirect_uris: Vec<String>,
    /// Log in on another device, by a code, even if there is a browser here
    #[arg(long)]
    pub device: bool,
    /// Write a kubeconfig that logs in so, and do nothing else
    #[arg(long, requires = "server")]
    pub print_kubeconfig: bool,
    /// The gateway, for the kubeconfig
    #[arg(long, value_name = "URL", requires = "print_kubeconfig")]
    pub server: Option<String>,
    /// Who certifies the gateway, as a PEM file; its content goes into the kubeconfig
    #[arg(long, value_name = "FILE", requires = "print_kubeconfig")]
    pub certificate_authority: Option<PathBuf>,
    /// Name of cluster and context in the kubeconfig
    #[arg(
        long,
        value_name = "NAME",
        requires = "print_kubeconfig",
        default_value = "hoop"
    )]
    pub name: String,
}

/// Arguments of `logout`.
#[derive(Debug, Clone, Args)]
pub struct LogoutArgs {
    /// Only of this issuer
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Only of this client
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
}

/// What a login is to be like.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) issuer: String,
    /// The issuer's discovery document.
    pub(super) discovery: Url,
    pub(super) client_id: String,
    /// Without doubles, "openid" first.
    pub(super) scopes: Vec<String>,
    /// Who certifies the issuer, as PEM, and the same read.
    pub(super) issuer_ca: Option<String>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) redirects: Vec<Redirect>,
    pub(super) device: bool,
}

/// Where the browser comes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) url: Url,
    /// Addresses to listen at; all of them, or another program on this machine might be the one that answers.
    pub(super) addresses: Vec<IpAddr>,
    /// Any free one when there is none.
    pub(super) port: Option<u16>,
}

impl Settings {
    /// Checks the command line. The error says what is wrong with it.
    pub(super) fn new(args: &LoginArgs) -> Result<Self, String> {
        let issuer_ca = match (&args.issuer_ca, &args.issuer_ca_data) {
            (Some(file), _) => Some(read(file, "--issuer-ca")?),
            (None, Some(data)) => Some(decode(data)?),
            (None, None) => None,
        };
        let redirects = args.redirect_uris.iter().map(|uri| Redirect::parse(uri));
        let mut settings = Self::of(&args.issuer, &args.client_id, issuer_ca)?;
        settings.redirects = redirects.collect::<Result<_, _>>()?;
        settings.device = args.device;
        for scope in &args.scopes {
            // RFC 6749 §3.3.
            let fits = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
            if scope.is_empty() || !scope.chars().all(fits) {
                return Err(format!(
                    "--scope: {scope:?} is no scope; give one at a time"
                ));
            }
            if !settings.scopes.contains(scope) {
                settings.scopes.push(scope.clone());
            }
        }
        Ok(settings)
    }

    /// The least there is to know of an issuer.
    pub(super) fn of(
        issuer: &str,
        client_id: &str,
        issuer_ca: Option<String>,
    ) -> Result<Self, String> {
        let unfit = || format!("--issuer: {issuer:?} is no https:// URL without ? and #");
        let url = Url::parse(issuer).map_err(|_| unfit())?;
        let plain = url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "https" || !url.has_host() || !plain || !url.username().is_empty() {
            return Err(unfit());
        }
        if client_id.is_empty() {
            return Err("--client-id: it is empty".to_owned());
        }
        let authorities = match &issuer_ca {
            Some(pem) => certificates_from_pem(pem.as_bytes())
                .map_err(|error| format!("--issuer-ca: {error}"))?,
            None => Vec::new(),
        };
        let discovery = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        Ok(Self {
            issuer: issuer.to_owned(),
            discovery: Url::parse(&discovery).map_err(|_| unfit())?,
            client_id: client_id.to_owned(),
            scopes: vec![OPENID.to_owned()],
            issuer_ca,
            authorities,
            redirects: Vec::new(),
            device: false,
        })
    }
}

impl Redirect {
    /// Only this machine (RFC 8252 §7.3): whoever the browser is sent to gets the code.
    fn parse(text: &str) -> Result<Self, String> {
        let unfit = || {
            format!(
                "--redirect-uri: {text:?} is no http:// URL of localhost, 127.0.0.1 or [::1], without ? and #"
            )
        };
        let url = Url::parse(text).map_err(|_| unfit())?;
        let addresses = match url.host() {
            Some(Host::Domain("localhost")) => {
                vec![
                    IpAddr::from([127, 0, 0, 1]),
                    std::net::Ipv6Addr::LOCALHOST.into(),
                ]
            }
            Some(Host::Ipv4(ip)) if ip.is_loopback() => vec![ip.into()],
            Some(Host::Ipv6(ip)) if ip.is_loopback() => vec![ip.into()],
            _ => return Err(unfit()),
        };
        if url.scheme() != "http" || url.query().is_some() || url.fragment().is_some() {
            return Err(unfit());
        }
        // Of a URL that names port 80 as well.
        let named = text.contains(":80/") || text.ends_with(":80");
        let port = url.port().or(named.then_some(80));
        Ok(Self {
            url,
            addresses,
            port,
        })
    }
}

/// A text file that an argument names.
pub(super) fn read(file: &Path, argument: &str) -> Result<String, String> {
    std::fs::read_to_string(file)
        .map_err(|error| format!("{argument}: {}: cannot be read: {error}", file.display()))
}

fn decode(data: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(data.trim()).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| "--issuer-ca-data: it is no PEM text in base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_comes_back_to_this_machine_only() {
        let both = Redirect::parse("http://localhost:8000").unwrap();
        assert_eq!((both.addresses.len(), both.port), (2, Some(8000)));
        assert_eq!(Redirect::parse("http://127.0.0.1/back").unwrap().port, None);
        assert_eq!(Redirect::parse("http://[::1]:80/").unwrap().port, Some(80));
        for elsewhere in [
            "https://localhost:8000",
            "http://localhost.example.com:8000",
            "http://10.0.0.1:8000",
            "http://localhost:8000/?a=b",
            "http://localhost:8000/#a",
            "localhost:8000",
            "",
        ] {
            assert!(Redirect::parse(elsewhere).is_err(), "{elsewhere:?}");
        }
    }

    #[test]
    fn an_issuer_is_asked_over_tls_only() {
        let at = |issuer: &str| Settings::of(issuer, "hoop", None).map(|s| s.discovery.to_string());
        let expected = "https://id.example.com/realms/people/.well-known/openid-configuration";
        assert_eq!(
            at("https://id.example.com/realms/people").unwrap(),
            expected
        );
        assert_eq!(
            at("https://id.example.com/realms/people/").unwrap(),
            expected
        );
        for unfit in [
            "http://id.example.com",
            "https://",
            "https://a/?b",
            "https://u@a/",
            "id",
        ] {
            assert!(at(unfit).is_err(), "{unfit:?}");
        }
        assert!(Settings::of("https://a", "", None).is_err());
        assert!(Settings::of("https://a", "hoop", Some("no PEM".into())).is_err());
    }
}
