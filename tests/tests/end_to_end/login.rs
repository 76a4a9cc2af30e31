//! People who log in at Keycloak, and work through the gateway with what they get there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoop_tests::testbed::{Answer, ApiServer, Keycloak, Kubectl, Need, Run};
use serde_json::Value;

use crate::harness::{Test, api_server, keycloak, login_pipeline, tests};
use crate::pipeline::{CONFIGURATION, Cluster, POLICY, Pipeline, hoop};

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Kubernetes, Need::Keycloak];
        kubectl_logs_a_person_in_and_works_with_the_groups_of_the_issuer,
        a_person_logs_in_on_another_device,
        a_login_is_renewed_until_it_is_ended,
        keys_are_rotated_and_old_tokens_hold_as_long_as_theirs_are_published,
        people_of_a_saml_provider_come_through_the_bridge,
        an_agent_may_less_than_the_person_it_acts_for,
        a_login_that_is_ended_is_out_at_once_and_the_next_one_comes_in,
    ]
}

/// A gateway that believes the realms of Keycloak.
fn gateway() -> Result<(Arc<Keycloak>, Arc<Pipeline>)> {
    let (server, keycloak) = (api_server()?, keycloak()?);
    let pipeline = login_pipeline(|run| start_gateway(run, &server, &keycloak))?;
    Ok((keycloak, pipeline))
}

fn start_gateway(run: Arc<Run>, server: &ApiServer, keycloak: &Keycloak) -> Result<Pipeline> {
    let pem = fs::read_to_string(keycloak.ca())?;
    let pem = pem.trim().replace('\n', "\n      ");
    let mut authentication =
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n"
            .to_owned();
    for realm in ["people", "rotating", "short"] {
        authentication += &format!(
            "- issuer:\n    url: {}\n    audiences: [hoop, agent-platform]\n    audienceMatchPolicy: MatchAny\n    \
             certificateAuthority: |\n      {pem}\n  claimMappings:\n    username: {{claim: email, prefix: ''}}\n    \
             groups: {{expression: 'claims.?groups.orValue([])'}}\n",
            keycloak.issuer(realm)
        );
    }
    let configuration = format!("{CONFIGURATION}\nauthentication: {{file: authentication.yaml}}\n");
    let policy = format!(
        "{POLICY}- name: agents\n  subjects: {{groups: [platform], actors: ['agent-*']}}\n  rules:\n  - {{name: look, \
         effect: allow, apiGroups: [''], resources: [namespaces, configmaps], verbs: [get, list]}}\n"
    );
    let files = [
        ("hoop.yaml", configuration.as_str()),
        ("authentication.yaml", &authentication),
        ("policy.yaml", &policy),
    ];
    Pipeline::start_with(run, "login", Cluster::Real(server), &files)
}

/// A person at a machine of their own: what is cached there is nobody else's.
struct Desk {
    keycloak: Arc<Keycloak>,
    pipeline: Arc<Pipeline>,
    home: PathBuf,
    arguments: Vec<String>,
    browser: String,
}

impl Desk {
    /// A new machine; `test` names it.
    fn new(
        test: &str,
        realm: &str,
        client: &str,
        person: &str,
        through: Option<&str>,
    ) -> Result<Self> {
        let (keycloak, pipeline) = gateway()?;
        let home = pipeline.folder().join(format!("home-{test}"));
        fs::create_dir_all(&home)?;
        Ok(Self {
            arguments: vec![
                format!("--issuer={}", keycloak.issuer(realm)),
                format!("--client-id={client}"),
                format!("--issuer-ca={}", keycloak.ca().display()),
                "--redirect-uri=http://127.0.0.1".to_owned(),
            ],
            browser: keycloak.browser(person, through),
            keycloak,
            pipeline,
            home,
        })
    }

    fn hoop(&self, what: &str) -> Command {
        let mut command = hoop();
        command
            .arg(what)
            .env("HOME", &self.home)
            .env_remove("XDG_CACHE_HOME")
            .env_remove("DISPLAY")
            .env("BROWSER", &self.browser);
        command
    }

    fn login(&self) -> Command {
        let mut command = self.hoop("login");
        command.args(&self.arguments);
        command
    }

    /// The token that kubectl would get.
    fn token(&self) -> Result<String> {
        token(&Answer::of(&mut self.login(), "")?.expect_success()?)
    }

    /// kubectl with the kubeconfig that `hoop login` writes.
    fn kubectl(&self) -> Result<Kubectl> {
        let gateway = self.pipeline.gateway()?;
        let mut print = self.login();
        print.args(["--print-kubeconfig", "--server", &gateway.0]);
        print.arg("--certificate-authority").arg(gateway.1);
        let printed = Answer::of(&mut print, "")?.expect_success()?;
        ensure!(printed.contains("\n      command: hoop\n"), "{printed}");
        // The program has another name here, and kubectl none of the environment.
        let path = std::env::var("PATH")?;
        let environment = format!(
            "\n      command: {}\n      env: [{{name: BROWSER, value: {}}}, {{name: PATH, value: {path:?}}}]\n",
            hoop().get_program().display(),
            self.browser
        );
        let kubeconfig = self.home.join("kubeconfig");
        fs::write(
            &kubeconfig,
            printed.replace("\n      command: hoop\n", &environment),
        )?;
        let kubectl = api_server()?.kubectl();
        Ok(kubectl.with_kubeconfig(&kubeconfig, &self.home))
    }

    /// kubectl with this very token.
    fn kubectl_with(&self, token: &str) -> Result<Kubectl> {
        let (server, ca) = self.pipeline.gateway()?;
        let kubeconfig = self.home.join("token.kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: c}}}}], \
             clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority: {ca:?}}}}}], \
             users: [{{name: c, user: {{token: {token}}}}}]}}"
        );
        fs::write(&kubeconfig, text)?;
        Ok(api_server()?
            .kubectl()
            .with_kubeconfig(&kubeconfig, &self.home))
    }

    /// Logins that a browser was opened for, for this person.
    fn logins(&self, person: &str) -> usize {
        let opened = format!("open {person} {}", self.keycloak.issuer("people"));
        let browsed = self.keycloak.browsed();
        browsed
            .lines()
            .filter(|line| line.starts_with(&opened))
            .count()
    }
}

fn token(credential: &str) -> Result<String> {
    let credential: Value = serde_json::from_str(credential)?;
    let token = credential["status"]["token"].as_str();
    Ok(token.context("a credential has a token")?.to_owned())
}

fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("a token has three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

const LIST: [&str; 4] = ["get", "namespaces", "-o", "name"];

fn kubectl_logs_a_person_in_and_works_with_the_groups_of_the_issuer() -> Result<()> {
    let alice = Desk::new("alice", "people", "hoop", "alice", None)?;
    let namespace = api_server()?.namespace("login")?;
    let kubectl = alice.kubectl()?;
    let names = kubectl.run(&LIST)?.expect_success()?;
    ensure!(names.contains(&namespace), "{names}");
    let create = ["-n", &namespace, "create", "configmap", "sky"];
    kubectl.run(&create)?.expect_success()?;
    ensure!(alice.logins("alice") >= 1);
    let events = alice.pipeline.events_of(&namespace, |event| {
        event["kind"] == "intent" && event["request"]["verb"] == "create"
    })?;
    let request = &events.first().context("the create is recorded")?["request"];
    ensure!(
        request["user"]["username"] == "alice@example.com",
        "{request}"
    );
    ensure!(
        request["user"]["groups"] == serde_json::json!(["platform"]),
        "{request}"
    );
    ensure!(
        request["auth_method"] == "oidc" && request["client_id"] == "hoop",
        "{request}"
    );
    let claims = claims(&alice.token()?)?;
    ensure!(
        request["login"] == claims["sid"] && claims["sid"].is_string(),
        "{request}"
    );
    // Of another group, and without a login of his own none of hers.
    let bob = Desk::new("bob", "people", "hoop", "bob", None)?;
    let kubectl = bob.kubectl()?;
    kubectl
        .run(&["-n", &namespace, "get", "configmap", "sky"])?
        .expect_success()?;
    let delete = ["-n", &namespace, "delete", "configmap", "sky"];
    let said = kubectl.run(&delete)?.expect_failure()?;
    ensure!(
        said.contains("(Forbidden)") && said.contains("bob@example.com"),
        "{said}"
    );
    ensure!(bob.logins("bob") == 1, "{}", bob.keycloak.browsed());
    Ok(())
}

/// Starts a login on another device, and reads the page that it shows.
fn device_login(desk: &Desk) -> Result<(Child, String)> {
    let mut child = desk
        .login()
        .arg("--device")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(child.stderr.take().context("it is piped")?);
    for line in said.lines() {
        if let Some(page) = line?.strip_prefix("hoop: or open ") {
            return Ok((child, page.to_owned()));
        }
    }
    child.kill()?;
    Err(anyhow!("no page was shown"))
}

fn a_person_logs_in_on_another_device() -> Result<()> {
    let desk = Desk::new("device", "people", "hoop", "alice", None)?;
    let (mut child, page) = device_login(&desk)?;
    let mut browser = Command::new("sh");
    browser.args(["-c", &format!("{} \"$0\"", desk.browser), &page]);
    Answer::of(&mut browser, "")?.expect_success()?;
    let mut credential = String::new();
    child
        .stdout
        .take()
        .context("it is piped")?
        .read_to_string(&mut credential)?;
    ensure!(child.wait()?.success());
    let kubectl = desk.kubectl_with(&token(&credential)?)?;
    kubectl.run(&LIST)?.expect_success()?;
    Ok(())
}

fn a_login_is_renewed_until_it_is_ended() -> Result<()> {
    let desk = Desk::new("short", "short", "hoop", "alice", None)?;
    let first = desk.token()?;
    let cache = fs::read_dir(desk.home.join(".cache/hoop/login"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "json"))
        .context("the login is kept")?;
    // These tokens last for less than one that is shown has to. No browser takes part in what follows.
    let by_refresh = |desk: &Desk| -> Result<Answer> {
        let mut login = desk.login();
        Answer::of(login.env("BROWSER", "false"), "")
    };
    let second = token(&by_refresh(&desk)?.expect_success()?)?;
    ensure!(first != second);
    ensure!(claims(&first)?["sid"] == claims(&second)?["sid"]);
    desk.kubectl_with(&second)?.run(&LIST)?.expect_success()?;

    let kept = fs::read(&cache)?;
    let logout = Answer::of(&mut desk.hoop("logout"), "")?;
    ensure!(logout.stderr.contains("logged out of"), "{}", logout.stderr);
    logout.expect_success()?;
    ensure!(!cache.exists());
    // Somebody who copied the file has nothing left of it: Keycloak wants a person again.
    fs::write(&cache, kept)?;
    let (mut child, page) = device_login(&desk)?;
    child.kill()?;
    child.wait()?;
    ensure!(page.contains("/realms/short/device"), "{page}");
    Ok(())
}

fn keys_are_rotated_and_old_tokens_hold_as_long_as_theirs_are_published() -> Result<()> {
    let desk = |name: &str| Desk::new(name, "rotating", "hoop", "bob", None);
    // Nothing is cached on a new machine, so each of these is a login.
    let login = |name: &str| -> Result<String> { desk(name)?.token() };
    let desk = desk("keys")?;
    let works = |token: &str| -> Result<bool> { Ok(desk.kubectl_with(token)?.run(&LIST)?.success) };
    // Keys are fetched when a token names a new one, but not twice in five seconds.
    let works_soon = |token: &str| -> Result<bool> {
        let begun = Instant::now();
        while !works(token)? {
            if begun.elapsed() > Duration::from_secs(30) {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(true)
    };
    let first = login("keys-1")?;
    ensure!(works_soon(&first)?);
    desk.keycloak.rotate_keys("rotating")?;
    let second = login("keys-2")?;
    ensure!(key(&first)? != key(&second)?);
    ensure!(
        works_soon(&second)?,
        "a new key is fetched when a token names it"
    );
    ensure!(works(&first)?, "the old key is published still");
    desk.keycloak.withdraw_old_keys("rotating")?;
    let third = login("keys-3")?;
    ensure!(works_soon(&third)?);
    ensure!(!works(&first)?, "its key is not published any more");
    let refused = desk.pipeline.events(|event| {
        let why = event["decision"]["message"].as_str().unwrap_or_default();
        why.contains(&desk.keycloak.issuer("rotating")) && why.contains("does not publish")
    })?;
    ensure!(!refused.is_empty());
    Ok(())
}

/// The name of the key that a token is signed with.
fn key(token: &str) -> Result<String> {
    let header = token.split('.').next().context("a token has a header")?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    Ok(header["kid"].as_str().context("it names a key")?.to_owned())
}

fn people_of_a_saml_provider_come_through_the_bridge() -> Result<()> {
    let carol = Desk::new("carol", "people", "hoop", "carol", Some("company"))?;
    let namespace = api_server()?.namespace("saml")?;
    let kubectl = carol.kubectl()?;
    let names = kubectl.run(&LIST)?.expect_success()?;
    ensure!(names.contains(&namespace), "{names}");
    let said = kubectl
        .run(&["-n", &namespace, "create", "configmap", "sky"])?
        .expect_failure()?;
    ensure!(
        said.contains("is forbidden") && said.contains("carol@example.com"),
        "{said}"
    );
    let browsed = carol.keycloak.browsed();
    let at = |realm: &str| format!("at {}", carol.keycloak.issuer(realm));
    ensure!(browsed.contains(&at("company")), "{browsed}");
    let denied = carol.pipeline.events_of(&namespace, |event| {
        event["kind"] == "intent" && event["decision"]["effect"] == "deny"
    })?;
    let user = &denied.first().context("the refusal is recorded")?["request"]["user"];
    // The company's group "engineering" is "developers" on this side of the bridge.
    ensure!(
        user["groups"] == serde_json::json!(["developers"]),
        "{user}"
    );
    Ok(())
}

fn an_agent_may_less_than_the_person_it_acts_for() -> Result<()> {
    let agent = Desk::new("agent", "people", "agent-platform", "alice", None)?;
    let namespace = api_server()?.namespace("agent")?;
    let kubectl = agent.kubectl()?;
    kubectl
        .run(&["-n", &namespace, "get", "configmaps"])?
        .expect_success()?;
    let said = kubectl
        .run(&["-n", &namespace, "create", "configmap", "sky"])?
        .expect_failure()?;
    ensure!(said.contains("agent-7"), "{said}");
    let events = agent
        .pipeline
        .events_of(&namespace, |event| event["kind"] == "intent")?;
    let session = events
        .first()
        .and_then(|event| event["session_id"].as_str());
    let session = session.context("it is recorded")?;
    let shown = agent
        .pipeline
        .replay(&["show", session])?
        .expect_success()?;
    ensure!(
        shown.contains("asked by \"agent-7\", who acts for the user"),
        "{shown}"
    );
    for event in events {
        let request = &event["request"];
        ensure!(
            request["user"]["username"] == "alice@example.com",
            "{request}"
        );
        ensure!(
            request["actors"] == serde_json::json!(["agent-7"]),
            "{request}"
        );
        ensure!(request["client_id"] == "agent-platform", "{request}");
    }
    Ok(())
}

/// How long a watch may take until it is in the record, and to end.
const SOON: Duration = Duration::from_secs(30);

/// What kubectl says of a watch, when it is over.
type Watch = std::thread::JoinHandle<Result<Answer>>;

/// kubectl, watching in a namespace as this login; it is in the record already.
fn watching(desk: &Desk, namespace: &str, login: &str) -> Result<Watch> {
    let (kubectl, watched) = (desk.kubectl()?, namespace.to_owned());
    let watch =
        std::thread::spawn(move || kubectl.run(&["-n", &watched, "get", "configmaps", "--watch"]));
    let begun = Instant::now();
    let is_watching = |event: &Value| {
        event["kind"] == "intent"
            && event["request"]["verb"] == "watch"
            && event["request"]["login"] == login
    };
    while desk.pipeline.events_of(namespace, is_watching)?.is_empty() {
        ensure!(begun.elapsed() < SOON, "the watch is never recorded");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(watch)
}

fn a_login_that_is_ended_is_out_at_once_and_the_next_one_comes_in() -> Result<()> {
    let lost = Desk::new("lost", "people", "hoop", "alice", None)?;
    let other = Desk::new("kept", "people", "hoop", "alice", None)?;
    let namespace = api_server()?.namespace("ended")?;
    let (kubectl, others) = (lost.kubectl()?, other.kubectl()?);
    let list = ["-n", &namespace, "get", "configmaps"];
    others.run(&list)?.expect_success()?;
    let login = |desk: &Desk| -> Result<String> {
        let claims = claims(&desk.token()?)?;
        Ok(claims["sid"]
            .as_str()
            .context("a login has a name")?
            .to_owned())
    };
    let (sid, other_sid) = (login(&lost)?, login(&other)?);
    ensure!(sid != other_sid, "each machine has a login of its own");

    let watch = watching(&lost, &namespace, &sid)?;
    let sessions = |arguments: &[&str]| -> Result<Answer> {
        let mut command = hoop();
        command
            .arg("sessions")
            .args(arguments)
            .arg("--data")
            .arg(lost.pipeline.data());
        Answer::of(command.env("USER", "carol"), "")
    };
    let listed = sessions(&["list", "-o", "json"])?.expect_success()?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let of_lost = listed
        .iter()
        .find(|session| session["login"] == sid.as_str() && session["state"] == "open");
    let watching = of_lost.context("the watch is listed")?;
    ensure!(
        watching["user"] == "alice@example.com" && watching["client_id"] == "hoop",
        "{watching}"
    );

    let said = sessions(&["end", "--login", &sid, "--reason", "laptop lost"])?.expect_success()?;
    ensure!(said.contains("the gateway has taken it"), "{said}");
    let begun = Instant::now();
    while !watch.is_finished() {
        ensure!(begun.elapsed() < SOON, "the watch does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    let watched = watch.join().map_err(|_| anyhow!("the watch panicked"))??;
    let shown = format!("{}{}", watched.stdout, watched.stderr);
    ensure!(
        shown.contains("ended by carol: laptop lost"),
        "kubectl shows: {shown}"
    );
    let refused = kubectl.run(&list)?.expect_failure()?;
    ensure!(
        refused.contains("ended by carol: laptop lost"),
        "kubectl says: {refused}"
    );
    others.run(&list)?.expect_success()?;
    // Who logs in anew comes in.
    Answer::of(&mut lost.hoop("logout"), "")?.expect_success()?;
    kubectl.run(&list)?.expect_success()?;
    ensure!(login(&lost)? != sid);

    let ended = lost
        .pipeline
        .events(|event| event["kind"] == "access.ended" && event["ended_login"] == sid.as_str())?;
    ensure!(ended.len() == 1 && ended[0]["by"] == "carol", "{ended:?}");
    let outcomes = lost.pipeline.events_of(&namespace, |event| {
        event["kind"] == "outcome" && event["decision"]["cause"] == "access_ended"
    })?;
    ensure!(outcomes.len() >= 2, "{outcomes:?}");
    Ok(())
}
