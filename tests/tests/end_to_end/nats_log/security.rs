//! Who may connect: TLS, client certificates, passwords, tokens, NKeys and JWTs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::event;
use hoop_sinks::log::nats::{Auth, OpenError, Options, Reader, Tls, Writer};
use hoop_sinks::log::{EventReader, EventWriter};
use hoop_tests::testbed::{Nats, NatsIdentities, NatsOperator, Need};

use super::bed::options;
use crate::client::block_on;
use crate::harness::{Test, tests, this_run};

/// How long it may take until a writer is let in again by a server that was away.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    tests![&[Need::Nats];
        passwords_tokens_and_nkeys_let_in_and_wrong_ones_do_not,
        credentials_that_an_operator_vouches_for_let_in,
        client_certificates_let_in,
        who_may_only_look_can_read_and_changes_nothing,
    ]
}

async fn lets_in(options: &Options) -> Result<()> {
    let writer = Writer::open(Class::standard(), options.clone()).await?;
    writer.append(Shard(0), event("let in")).await?;
    writer.close().await;
    Ok(())
}

fn file(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

fn passwords_tokens_and_nkeys_let_in_and_wrong_ones_do_not() -> Result<()> {
    let run = this_run()?;
    let (seed, key) = NKEY;
    let accounts = format!(
        "authorization {{ users: [{{ user: alice, password: \"alice-secret\" }}, {{ nkey: {key} }}] }}"
    );
    let server = Nats::start(&run, "nats-users", &accounts)?;
    let token_server = Nats::start(&run, "nats-token", "authorization { token: \"the-token\" }")?;
    let folder = server.folder();
    let right = [
        (
            &server,
            Auth::Password {
                user: "alice".to_owned(),
                file: file(folder, "password", "alice-secret\n")?,
            },
        ),
        (
            &server,
            Auth::Nkey {
                file: file(folder, "seed", seed)?,
            },
        ),
        (
            &token_server,
            Auth::Token {
                file: file(folder, "token", "the-token")?,
            },
        ),
    ];
    let wrong = [
        (&server, Auth::None),
        (
            &server,
            Auth::Password {
                user: "alice".to_owned(),
                file: file(folder, "wrong", "bob-secret")?,
            },
        ),
        (
            &server,
            Auth::Nkey {
                file: folder.join("missing"),
            },
        ),
        (
            &token_server,
            Auth::Token {
                file: folder.join("wrong"),
            },
        ),
    ];
    block_on(async {
        for (server, auth) in right {
            let options = Options {
                auth,
                ..options(&server.url(), "users")
            };
            lets_in(&options)
                .await
                .with_context(|| format!("{:?}", options.auth))?;
        }
        for (server, auth) in wrong {
            let options = Options {
                auth,
                ..options(&server.url(), "users")
            };
            ensure!(lets_in(&options).await.is_err(), "{:?}", options.auth);
        }
        Ok(())
    })
}

/// A user's seed and public key, made for this test.
const NKEY: (&str, &str) = (
    "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
);

fn credentials_that_an_operator_vouches_for_let_in() -> Result<()> {
    let run = this_run()?;
    let company = NatsOperator::make(&run.folder().join("nats-company"), "company")?;
    let stranger = NatsOperator::make(&run.folder().join("nats-stranger"), "stranger")?;
    let mut server = Nats::start(&run, "nats-claims", &company.settings()?)?;
    let url = server.url();
    let with = |file: PathBuf| Options {
        auth: Auth::Credentials { file },
        ..options(&url, "claims")
    };
    let known = with(company.user("hoop", &[])?);
    let bounded = with(company.user("bounded", &["elsewhere.>"])?);
    let unknown = with(stranger.user("hoop", &[])?);
    let text = std::fs::read_to_string(company.user("altered", &[])?)?;
    let (_, seed) = text
        .split_once("------END NATS USER JWT------")
        .context("two parts")?;
    let claims = std::fs::read_to_string(company.user("hoop-2", &[])?)?;
    let (claims, _) = claims
        .split_once("------END NATS USER JWT------")
        .context("two parts")?;
    let mixed = format!("{claims}------END NATS USER JWT------{seed}");
    let mixed = with(file(server.folder(), "mixed.creds", &mixed)?);
    block_on(async {
        lets_in(&known).await?;
        for (options, who) in [
            (bounded, "who may publish elsewhere alone"),
            (unknown, "whom another operator vouches for"),
            (
                mixed,
                "who has the claims of one user and the key of another",
            ),
        ] {
            ensure!(lets_in(&options).await.is_err(), "let in: {who}");
        }
        // The same connection after the server was away: the next challenge is another one.
        let writer = Writer::open(Class::standard(), known.clone()).await?;
        writer.append(Shard(0), event("before")).await?;
        server.kill();
        server.start_again(&run)?;
        let begun = Instant::now();
        while let Err(error) = writer.append(Shard(0), event("after")).await {
            ensure!(begun.elapsed() < RECONNECTED_WITHIN, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        writer.close().await;
        Ok(())
    })
}

fn client_certificates_let_in() -> Result<()> {
    let run = this_run()?;
    let folder = run.folder().join("nats-certificates");
    let identities = NatsIdentities::make(&folder)?;
    let server = Nats::start(&run, "nats-tls", &identities.settings())?;
    let url = server.url().replace("nats://", "tls://");
    block_on(async {
        let tls = Tls {
            ca: Some(identities.ca.clone()),
            identity: Some(identities.client.clone()),
            handshake_first: false,
        };
        let known = Options {
            tls: tls.clone(),
            ..options(&url, "tls")
        };
        lets_in(&known).await?;
        let nobody = Options {
            tls: Tls {
                identity: None,
                ..tls.clone()
            },
            ..options(&url, "tls")
        };
        ensure!(lets_in(&nobody).await.is_err(), "without a certificate");
        let stranger = Options {
            tls: Tls { ca: None, ..tls },
            ..options(&url, "tls")
        };
        ensure!(
            lets_in(&stranger).await.is_err(),
            "a server that nobody vouches for"
        );
        Ok(())
    })
}

/// The rights that the documents give to an investigator are enough, and no more than reading.
fn who_may_only_look_can_read_and_changes_nothing() -> Result<()> {
    let run = this_run()?;
    let stream = "audit_looking_standard";
    let may = ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"]
        .map(|what| format!("\"$JS.API.{what}.{stream}\""))
        .join(", ");
    let accounts = format!(
        "authorization {{ users: [{{ user: alice, password: \"alice-secret\" }}, {{ user: looker, password: \"look\", \
         permissions: {{ publish: [{may}], subscribe: [\"_INBOX.>\"] }} }}] }}"
    );
    let server = Nats::start(&run, "nats-looking", &accounts)?;
    let user = |user: &str, password: &str| {
        let file = file(server.folder(), &format!("{user}-password"), password)?;
        let auth = Auth::Password {
            user: user.to_owned(),
            file,
        };
        anyhow::Ok(Options {
            auth,
            ..options(&server.url(), "looking")
        })
    };
    let (writer, looker) = (user("alice", "alice-secret")?, user("looker", "look")?);
    block_on(async {
        let class = Class::standard();
        let none = Reader::open_to_look(class.clone(), looker.clone()).await;
        ensure!(matches!(none, Err(OpenError::Missing { .. })), "{none:?}");
        lets_in(&writer).await?;
        let reader = Reader::open_to_look(class.clone(), looker.clone()).await?;
        ensure!(reader.shards() == writer.shards.get(), "{reader:?}");
        let bounds = reader.bounds(Shard(0)).await?;
        let read = reader
            .read(Shard(0), bounds.first, 1 << 20, Duration::ZERO)
            .await?;
        ensure!(read.len() == 1, "{read:?}");
        // It may not write, and leaves nothing behind that the server would remember.
        ensure!(lets_in(&looker).await.is_err(), "a reader wrote");
        let client = async_nats::ConnectOptions::with_user_and_password(
            "alice".to_owned(),
            "alice-secret".to_owned(),
        );
        let client = client.connect(server.url()).await?;
        let mut found = async_nats::jetstream::new(client)
            .get_stream(stream)
            .await?;
        let state = &found.info().await?.state;
        ensure!(state.consumer_count == 0, "{state:?}");
        Ok(())
    })
}
