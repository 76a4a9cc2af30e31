//! `hoop sessions`: who is at work, and ending it while the gateway runs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::process::{PATIENCE, cluster, free_port, hoop, run};
use crate::up::{start, stop};

const WATCH: &str = "/api/v1/namespaces/shop/pods?watch=true";

async fn client(folder: &Path) -> kube::Client {
    let path = folder.join("d/kubeconfigs/jo.kubeconfig");
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn get(client: &kube::Client, target: &str) -> http::Response<Body> {
    let request = http::Request::get(target).body(Body::empty()).unwrap();
    client.send(request).await.unwrap()
}

/// Reads a stream to its end, which must be an orderly one.
async fn to_the_end(mut body: Body) -> String {
    let mut text = Vec::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("the stream ends");
    String::from_utf8(text).unwrap()
}

async fn sessions(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["sessions"], arguments, &["--data", "d"]].concat();
    run(&mut hoop(folder, &arguments)).await
}

/// The sessions as JSON.
async fn listed(folder: &Path) -> Vec<Value> {
    let (code, text, _) = sessions(folder, &["list", "-o", "json"]).await;
    assert_eq!(code, 0);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_listed_and_ended_with_what_it_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _) = cluster(folder).await;
    let gateway = start(folder, free_port()).await;
    let jo = client(folder).await;
    let mut watch = get(&jo, WATCH).await.into_body();
    watch.frame().await.unwrap().unwrap();

    let open = listed(folder).await;
    assert_eq!(open.len(), 1, "{open:?}");
    let session = &open[0];
    assert_eq!(
        (&session["user"], &session["state"]),
        (&"jo".into(), &"open".into())
    );
    let requests = session["open"].as_array().unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        (&requests[0]["verb"], &requests[0]["resource"]),
        (&"watch".into(), &"pods".into())
    );
    assert!(session["ended_by"].is_null());
    let (_, table, _) = sessions(folder, &["list", "--utc"]).await;
    for what in ["jo", "1 open", "watch pods shop"] {
        assert!(table.contains(what), "{what} is missing in\n{table}");
    }

    let login = session["login"].as_str().unwrap();
    let (code, text, _) = sessions(
        folder,
        &["end", "--login", &login[..8], "--reason", "laptop lost"],
    )
    .await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(&format!("ended  login {login} of jo until ")),
        "{text}"
    );
    assert!(text.contains("1 session, 1 request open"), "{text}");
    assert!(text.contains("the gateway has taken it"), "{text}");
    let rest = to_the_end(watch).await;
    assert!(
        rest.contains("this login was ended by jo: laptop lost"),
        "{rest}"
    );
    assert_eq!(get(&jo, WATCH).await.status(), 401);

    let (_, table, _) = sessions(folder, &["list", "--utc"]).await;
    assert!(
        table.contains("ended") && table.contains("by jo (laptop lost)"),
        "{table}"
    );
    let after = listed(folder).await;
    assert_eq!(after[0]["ended_by"]["login"], login);
    assert_eq!(after[0]["open"], Value::Array(Vec::new()));
    let file = folder.join("d/ended.jsonl");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_pardoned_comes_in_again_and_that_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _) = cluster(folder).await;
    let gateway = start(folder, free_port()).await;
    let jo = client(folder).await;
    assert_eq!(get(&jo, WATCH).await.status(), 200);
    let login = listed(folder).await[0]["login"]
        .as_str()
        .unwrap()
        .to_owned();
    let (code, ..) = sessions(folder, &["end", "--login", &login[..8]]).await;
    assert_eq!(code, 0);
    assert_eq!(get(&jo, WATCH).await.status(), 401);
    let (code, _, said) = sessions(folder, &["pardon", "--user", "jo"]).await;
    assert_eq!(
        (code, said.contains("no access jo is ended")),
        (1, true),
        "{said}"
    );
    let pardon = ["pardon", "--login", &login[..8], "--reason", "found again"];
    let (code, text, said) = sessions(folder, &pardon).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        text.contains(&format!("pardoned  login {login} of jo")),
        "{text}"
    );
    assert_eq!(get(&jo, WATCH).await.status(), 200);
    assert!(listed(folder).await[0]["ended_by"].is_null());
    let (code, _, said) = sessions(folder, &pardon).await;
    assert_eq!((code, said.contains("is ended")), (1, true), "{said}");

    stop(gateway).await;
    let mut replay = hoop(folder, &["replay", "grep", "found again", "--data", "d"]);
    let (code, text, said) = run(&mut replay).await;
    assert_eq!(
        (code, text.contains("access.ended")),
        (0, true),
        "{text}{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ended_is_told_and_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _) = cluster(folder).await;
    let gateway = start(folder, free_port()).await;
    assert_eq!(
        get(&client(folder).await, "/api/v1/namespaces/shop/pods")
            .await
            .status(),
        200
    );
    for (arguments, code, message) in [
        (&["end"][..], 64, "say what to end"),
        (
            &["end", "ffffffff"],
            1,
            "no session of the last day begins with ffffffff",
        ),
        (&["end", "--login", "0"], 1, "at least 4 characters"),
        (
            &["end", "--user", "jo", "--user", "nobody"],
            1,
            "nobody called nobody",
        ),
        (&["end", "--user", "jo", "--reason", "a\nb"], 64, "one line"),
        (
            &["end", "--user", "jo", "--for", "0s"],
            64,
            "more than nothing",
        ),
        (&["list", "--since", "then"], 64, "is no point in time"),
    ] {
        let (found, _, said) = sessions(folder, arguments).await;
        assert_eq!(found, code, "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    assert!(!folder.join("d/ended.jsonl").exists());
    let (code, _, said) = run(&mut hoop(folder, &["sessions", "list", "--data", "other"])).await;
    assert_eq!(code, 64);
    assert!(said.contains("other is no data directory"), "{said}");

    // A file that somebody spoilt is not written over.
    std::fs::write(folder.join("d/ended.jsonl"), "alice\n").unwrap();
    let (code, _, said) = sessions(folder, &["end", "--user", "jo"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("ended.jsonl: line 1"), "{said}");
    stop(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_write_at_once_and_a_gateway_that_is_down_takes_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_cluster, _) = cluster(folder).await;
    let port = free_port();
    let gateway = start(folder, port).await;
    let pods = "/api/v1/namespaces/shop/pods";
    assert_eq!(get(&client(folder).await, pods).await.status(), 200);
    let file = folder.join("d/ended.jsonl");
    let names = ["a", "b", "c", "d"];
    let ends = names.map(|name| {
        let folder = folder.to_owned();
        tokio::spawn(async move {
            let arguments = ["end", "--unseen", "--user", name];
            sessions(&folder, &arguments).await.0
        })
    });
    for end in ends {
        assert_eq!(end.await.unwrap(), 0);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 4);
    stop(gateway).await;
    let (code, _, said) = sessions(folder, &["end", "--user", "jo", "--for", "5m"]).await;
    assert_eq!(code, 0);
    assert!(
        said.contains("no gateway runs on this data directory"),
        "{said}"
    );
    assert!(
        listed(folder)
            .await
            .iter()
            .all(|session| session["state"] == "over")
    );
    let gateway = start(folder, port).await;
    assert_eq!(get(&client(folder).await, pods).await.status(), 401);
    stop(gateway).await;
}
