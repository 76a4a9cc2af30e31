//! `hoop login` and `hoop logout`; the test plays the browser, and the person before it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use url::Url;

use crate::issuer::{CODE, LoginIssuer};
use crate::process::{PATIENCE, hoop, run};

const EXEC_INFO: &str = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#;

/// A person with an empty home, a browser, and an issuer.
struct Bed {
    folder: TempDir,
    issuer: LoginIssuer,
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = LoginIssuer::start().await;
        std::fs::write(folder.path().join("issuer.pem"), &issuer.ca_pem).unwrap();
        // A browser that only says which page it is to show.
        let browser = folder.path().join("browser");
        let script = format!(
            "#!/bin/sh\nprintf %s \"$1\" > \"{0}/page.$$\" && mv \"{0}/page.$$\" \"{0}/pages/$$\"\n",
            folder.path().display()
        );
        std::fs::write(&browser, script).unwrap();
        std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("pages")).unwrap();
        Self { folder, issuer }
    }

    fn login(&self, more: &[&str]) -> Command {
        let issuer = format!("--issuer={}", self.issuer.url);
        let mut arguments = vec![
            "login",
            &issuer,
            "--client-id=hoop",
            "--issuer-ca=issuer.pem",
        ];
        arguments.push("--redirect-uri=http://127.0.0.1");
        arguments.extend(more);
        let mut command = hoop(self.folder.path(), &arguments);
        command
            .env("BROWSER", self.folder.path().join("browser"))
            .env("KUBERNETES_EXEC_INFO", EXEC_INFO)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Pages that were opened.
    fn pages(&self) -> Vec<PathBuf> {
        let pages = std::fs::read_dir(self.folder.path().join("pages")).unwrap();
        pages.map(|page| page.unwrap().path()).collect()
    }

    /// Waits for a page to be opened, and lets the issuer know what it is asked there.
    async fn page(&self) -> BTreeMap<String, String> {
        let page = async {
            loop {
                if let Some(page) = self.pages().pop() {
                    let text = std::fs::read_to_string(&page).unwrap();
                    std::fs::remove_file(page).unwrap();
                    return Url::parse(&text).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let page = tokio::time::timeout(PATIENCE, page).await.unwrap();
        assert!(
            page.as_str()
                .starts_with(&format!("{}/authorize?tenant=a&", self.issuer.url))
        );
        let asked: BTreeMap<String, String> = page.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["client_id"], "hoop");
        self.issuer.set(|says| {
            says.challenge.clone_from(&asked["code_challenge"]);
            says.nonce.clone_from(&asked["nonce"]);
            says.redirect_uri.clone_from(&asked["redirect_uri"]);
        });
        asked
    }

    /// Plays browser and person until the login is done.
    async fn log_in(&self) {
        let asked = self.page().await;
        let answer = come_back(&asked, &format!("code={CODE}&state={}", asked["state"])).await;
        assert!(
            answer.contains("200 OK") && answer.contains("You are logged in"),
            "{answer}"
        );
    }

    /// The only file of the cache.
    fn cached(&self) -> PathBuf {
        let folder = std::fs::read_dir(self.folder.path().join(".cache/hoop/login")).unwrap();
        let mut files = folder
            .map(|file| file.unwrap().path())
            .filter(|file| file.extension().is_some_and(|e| e == "json"));
        let file = files.next().unwrap();
        assert!(files.next().is_none());
        file
    }
}

/// The browser follows the issuer back to this machine.
async fn come_back(asked: &BTreeMap<String, String>, query: &str) -> String {
    let at = Url::parse(&asked["redirect_uri"]).unwrap();
    let port = at.port().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("GET /?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Exit code, the credential, what the person was told.
async fn end(child: Child) -> (i32, Value, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let credential = serde_json::from_slice(&output.stdout).unwrap_or_default();
    println!("{said}");
    (output.status.code().unwrap(), credential, said)
}

fn token(credential: &Value) -> &str {
    credential["status"]["token"].as_str().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_the_browser_gives_kubectl_a_token_and_is_kept() {
    let bed = Bed::new().await;
    let child = bed
        .login(&["--scope=email", "--scope=groups"])
        .spawn()
        .unwrap();
    let asked = bed.page().await;
    assert_eq!(asked["scope"], "openid email groups");
    // Other pages and programs do not get between.
    for query in ["code=evil&state=x", "code=evil", "error=access_denied", ""] {
        let answer = come_back(&asked, query).await;
        assert!(answer.contains("400 Bad Request"), "{answer}");
    }
    come_back(&asked, &format!("code={CODE}&state={}", asked["state"])).await;
    let (code, credential, said) = end(child).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(credential["kind"], "ExecCredential");
    let expires: jiff::Timestamp = credential["status"]["expirationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(expires > jiff::Timestamp::now());
    let signature = token(&credential).rsplit_once('.').unwrap().0;
    assert!(
        !said.contains(signature) && !said.contains("refresh-1"),
        "{said}"
    );
    let file = bed.cached();
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    let again = bed
        .login(&["--scope=email", "--scope=groups"])
        .spawn()
        .unwrap();
    let (code, second, said) = end(again).await;
    assert_eq!(
        (code, token(&second), said.as_str()),
        (0, token(&credential), "")
    );
    assert_eq!(
        bed.issuer.heard("/token", "grant_type"),
        ["authorization_code"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_that_start_together_open_one_browser() {
    let bed = Bed::new().await;
    let children: Vec<_> = (0..10).map(|_| bed.login(&[]).spawn().unwrap()).collect();
    bed.log_in().await;
    let mut tokens = Vec::new();
    for child in children {
        let (code, credential, said) = end(child).await;
        assert_eq!(code, 0, "{said}");
        tokens.push(token(&credential).to_owned());
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert!(bed.pages().is_empty());
    assert_eq!(bed.issuer.heard("/token", "grant_type").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_is_renewed_and_when_that_is_refused_the_person_logs_in_again() {
    let bed = Bed::new().await;
    bed.issuer.set(|says| says.lifetime = 20);
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    let (_, first, _) = end(child).await;
    let (code, second, said) = end(bed.login(&[]).spawn().unwrap()).await;
    assert_eq!((code, said.as_str()), (0, ""));
    assert_ne!(token(&second), token(&first));
    // The issuer gives another refresh token each time, and takes none twice.
    let (code, _, said) = end(bed.login(&[]).spawn().unwrap()).await;
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        bed.issuer.heard("/token", "refresh_token"),
        ["refresh-1", "refresh-2"]
    );

    bed.issuer.set(|says| says.refresh.clear());
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    let (code, ..) = end(child).await;
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_damaged_or_open_to_others_leads_to_a_new_login() {
    let bed = Bed::new().await;
    for spoil in [
        (|file: &Path| std::fs::write(file, "{\"version\":1,")) as fn(&Path) -> _,
        |file| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)),
    ] {
        let child = bed.login(&[]).spawn().unwrap();
        bed.log_in().await;
        let (code, ..) = end(child).await;
        assert_eq!(code, 0);
        spoil(&bed.cached()).unwrap();
    }
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    let (code, _, said) = end(child).await;
    assert_eq!(code, 0);
    assert!(said.contains("others can read it"), "{said}");
    assert_eq!(mode(&bed.cached()), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_login_of_everybody_who_waits_for_it() {
    let bed = Bed::new().await;
    let said = |n: usize| bed.folder.path().join(format!("said-{n}"));
    let child = |n: usize| {
        let file = std::fs::File::create(said(n)).unwrap();
        bed.login(&[]).stderr(file).spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(child).collect();
    let asked = bed.page().await;
    let read = |n: usize| std::fs::read_to_string(said(n)).unwrap();
    let waiting = async {
        while (0..3)
            .filter(|n| read(*n).contains("waiting for it"))
            .count()
            < 2
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let refused = format!(
        "error=access_denied&error_description=not%20you&state={}",
        asked["state"]
    );
    let answer = come_back(&asked, &refused).await;
    assert!(answer.contains("The login failed"), "{answer}");
    for (n, child) in children.into_iter().enumerate() {
        let (code, credential, _) = end(child).await;
        assert_eq!((code, credential), (1, Value::Null));
        assert!(read(n).contains("access_denied not you"), "{}", read(n));
    }
    assert!(bed.pages().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_answers_another_login_is_refused() {
    let bed = Bed::new().await;
    let child = bed.login(&[]).spawn().unwrap();
    let asked = bed.page().await;
    bed.issuer.set(|says| says.nonce = "another".into());
    come_back(&asked, &format!("code={CODE}&state={}", asked["state"])).await;
    let (code, credential, said) = end(child).await;
    assert_eq!((code, credential), (1, Value::Null));
    assert!(said.contains("nonce"), "{said}");
    // And so is a code that somebody slipped in: it belongs to another challenge.
    let child = bed.login(&[]).spawn().unwrap();
    let asked = bed.page().await;
    bed.issuer.set(|says| says.challenge = "another".into());
    come_back(&asked, &format!("code={CODE}&state={}", asked["state"])).await;
    let (code, _, said) = end(child).await;
    assert_eq!(code, 1);
    assert!(said.contains("invalid_grant"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_screen_people_log_in_on_another_device() {
    let bed = Bed::new().await;
    bed.issuer
        .set(|says| says.device = ["authorization_pending", "slow_down", ""].into());
    let mut login = bed.login(&[]);
    let begun = std::time::Instant::now();
    let (code, credential, said) = end(login.env_remove("BROWSER").spawn().unwrap()).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("WDJB-MJHT") && said.contains("/enter"),
        "{said}"
    );
    assert!(!token(&credential).is_empty());
    // A second each, and the five more that were asked for.
    assert!(
        begun.elapsed() >= Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let posted = bed.issuer.heard("/device", "code_challenge_method");
    assert_eq!(posted, ["S256"]);
    assert_eq!(bed.issuer.heard("/token", "code_verifier").len(), 3);
    std::fs::remove_file(bed.cached()).unwrap();
    for (answer, why) in [
        ("access_denied", "refused on the other device"),
        ("expired_token", "in time"),
        ("invalid_client", "so it is"),
    ] {
        bed.issuer.set(|says| says.device = [answer].into());
        // There is a browser, and it is not wanted.
        let (code, credential, said) = end(bed.login(&["--device"]).spawn().unwrap()).await;
        assert_eq!((code, credential), (1, Value::Null));
        assert!(said.contains(why), "{said}");
    }
    assert!(bed.pages().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_or_another_opens_no_browser() {
    let bed = Bed::new().await;
    bed.issuer.set(|says| says.lifetime = 20);
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    end(child).await;
    let url = bed.issuer.url.clone();
    bed.issuer
        .set(|says| says.discovery["issuer"] = "https://elsewhere".into());
    let (code, _, said) = end(bed.login(&[]).spawn().unwrap()).await;
    assert_eq!(code, 1);
    assert!(said.contains("https://elsewhere"), "{said}");
    bed.issuer.set(|says| {
        says.discovery["issuer"] = url.as_str().into();
        says.discovery["token_endpoint"] = url.replace("https", "http").into();
    });
    let (code, _, said) = end(bed.login(&[]).spawn().unwrap()).await;
    assert_eq!(code, 1);
    assert!(said.contains("token endpoint"), "{said}");
    bed.issuer
        .set(|says| says.discovery["token_endpoint"] = "https://localhost:9/".into());
    let (code, _, said) = end(bed.login(&[]).spawn().unwrap()).await;
    assert_eq!(code, 1);
    assert!(said.contains("cannot be reached"), "{said}");
    assert!(bed.pages().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_forgets_the_login_and_ends_it_at_the_issuer() {
    let bed = Bed::new().await;
    let logout = |more: &[&str]| {
        let mut arguments = vec!["logout"];
        arguments.extend(more);
        hoop(bed.folder.path(), &arguments)
    };
    let (code, _, said) = run(&mut logout(&[])).await;
    assert_eq!((code, said.contains("no such login")), (0, true), "{said}");
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    end(child).await;
    let (_, _, said) = run(&mut logout(&["--issuer=https://other"])).await;
    assert!(said.contains("no such login"), "{said}");
    let (code, stdout, said) = run(&mut logout(&["--issuer", &bed.issuer.url])).await;
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert!(said.contains("logged out of"), "{said}");
    assert_eq!(bed.issuer.heard("/revoke", "token"), ["refresh-1"]);

    bed.issuer
        .set(|says| says.discovery["revocation_endpoint"] = Value::Null);
    let child = bed.login(&[]).spawn().unwrap();
    bed.log_in().await;
    end(child).await;
    let (code, _, said) = run(&mut logout(&[])).await;
    assert_eq!(
        (code, said.contains("logged out here")),
        (0, true),
        "{said}"
    );
    assert_eq!(bed.issuer.heard("/revoke", "token").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_is_written_that_holds_no_credential() {
    let bed = Bed::new().await;
    let more = [
        "--print-kubeconfig",
        "--server=https://hoop.example.com:8443",
    ];
    let mut login = bed.login(&more);
    login.args([
        "--certificate-authority=issuer.pem",
        "--scope=groups",
        "--name=prod: eu",
    ]);
    let (code, stdout, _) = run(&mut login).await;
    assert_eq!(code, 0);
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&stdout).unwrap();
    assert_eq!(kubeconfig.current_context.as_deref(), Some("prod: eu"));
    let cluster = kubeconfig.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(
        cluster.server.as_deref(),
        Some("https://hoop.example.com:8443")
    );
    assert!(cluster.certificate_authority_data.is_some());
    let exec = kubeconfig.auth_infos[0]
        .auth_info
        .as_ref()
        .unwrap()
        .exec
        .clone()
        .unwrap();
    assert_eq!(
        exec.api_version.as_deref(),
        Some("client.authentication.k8s.io/v1")
    );
    assert_eq!(exec.command.as_deref(), Some("hoop"));
    // What kubectl will run is what was asked for here.
    let mut arguments = exec.args.unwrap();
    assert_eq!(arguments.remove(0), "login");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut login = hoop(bed.folder.path(), &["login"]);
    login
        .args(&arguments)
        .env("BROWSER", bed.folder.path().join("browser"))
        .env("KUBERNETES_EXEC_INFO", EXEC_INFO)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = login.spawn().unwrap();
    bed.log_in().await;
    let (code, credential, said) = end(child).await;
    assert_eq!(code, 0, "{said}");
    assert!(!token(&credential).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_refused_before_anything_happens() {
    let bed = Bed::new().await;
    for (more, why) in [
        (&["--redirect-uri=http://example.com"][..], "--redirect-uri"),
        (&["--scope=a b"], "--scope"),
        (&["--issuer-ca-data=eA=="], "--issuer-ca"),
        (&["--print-kubeconfig"], "--server"),
        (&["--print-kubeconfig", "--server=http://a"], "--server"),
    ] {
        let (code, stdout, said) = run(&mut bed.login(more)).await;
        assert_eq!((code, stdout.as_str()), (64, ""), "{more:?}");
        assert!(said.contains(why), "{said}");
    }
    let mut login = bed.login(&[]);
    login.env(
        "KUBERNETES_EXEC_INFO",
        EXEC_INFO.replace("/v1", "/v1alpha1"),
    );
    let (code, _, said) = run(&mut login).await;
    assert_eq!((code, said.contains("v1alpha1")), (64, true), "{said}");
    assert!(!bed.folder.path().join(".cache").exists());
}
