//! What others say of a log: new keys, witnesses, and the reference implementation.

use super::*;

#[test]
fn a_key_that_the_old_one_announced_is_known() {
    let copy = Copy::new();
    let folder = copy.0.path().to_owned();
    block_on(async move {
        record(&folder, (2, Some(1)), None, || true).await;
        commit(&folder, "standard", 2, FILES, 1).await;
        record(&folder, (2, None), None, || true).await;
    });
    let said = copy.verify(&[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains(&vkey(2)), "{}", said.out);
    // Whoever has the new key alone does not know the old checkpoints.
    assert_eq!(copy.verify_by(&["--key", &vkey(2)]).code, 3);
    assert_eq!(
        copy.verify_by(&["--key", &vkey(2), "--key", &vkey(1)]).code,
        0
    );
    // Without the checkpoint that the old key signed over the announcement, the new key is anybody's.
    copy.remove(&copy.checkpoint(7));
    assert_eq!(copy.verify(&[]).code, 3);
}

#[test]
fn a_witness_is_heard() {
    let copy = Copy::new();
    let kept = replay(
        copy.0.path(),
        80,
        &["checkpoint", "--class", "standard", "--shard", "0"],
    )
    .out;
    let (witness, cosigned) = cosign(&kept, 1_795_000_000);
    copy.write(&format!("{LOG}/cosigned/{:020}-w1", FILES), &cosigned);
    let said = copy.verify(&["--witness", &witness.to_string()]);
    assert_eq!(said.code, 0, "{}", said.out);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let of_standard = report["logs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|log| log["origin"] == "hoop/sample/standard/000");
    let seen = &of_standard.unwrap()["cosigned"][0];
    assert_eq!(
        (&seen["witness"], &seen["leaves"]),
        (&"witness.example/w1".into(), &6.into())
    );
    // What the witness saw cannot be cut off, and nobody else can say it in its name.
    copy.remove(&copy.checkpoint(6));
    copy.expect(
        &["--witness", &witness.to_string()],
        2,
        "cosigned/",
        "the newest were cut off",
    );
    let copy = Copy::new();
    let forged = cosigned.replace("\n6\n", "\n5\n");
    copy.write(&format!("{LOG}/cosigned/{:020}-w1", 5), forged);
    copy.expect(
        &["--witness", &witness.to_string()],
        1,
        "cosigned/",
        "the cosignature of witness.example/w1 is wrong",
    );
}

#[test]
fn a_log_with_another_past_than_a_witness_saw_is_found() {
    let copy = Copy::new();
    let kept = replay(
        copy.0.path(),
        80,
        &["checkpoint", "--class", "standard", "--shard", "0"],
    );
    let (witness, cosigned) = cosign(&kept.out, 1_795_000_000);
    // Somebody has the key of the log, but not that of the witness.
    let mut other = copy.entries();
    let leaf = String::from_utf8(other[5].clone()).unwrap();
    other[5] = leaf.replace("\"gaps\":0", "\"gaps\":1").into_bytes();
    copy.rewrite(&other, &key(1));
    copy.write(&format!("{LOG}/cosigned/{FILES:020}-w1"), &cosigned);
    copy.expect(
        &["--witness", &witness.to_string()],
        1,
        "cosigned/",
        "a witness saw another past of this log",
    );
}

/// Adds the cosignature of a witness to a checkpoint.
fn cosign(checkpoint: &str, time: u64) -> (Verifier, String) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let name = "witness.example/w1";
    let key = SigningKey::new(name, [3; 32]).unwrap();
    let note: Note = checkpoint.parse().unwrap();
    let public = key.verifier().to_string();
    let public = STANDARD
        .decode(public.splitn(3, '+').last().unwrap())
        .unwrap();
    let witness =
        Verifier::new(name, KeyUse::Cosignatures, public[1..].try_into().unwrap()).unwrap();
    let signed = Note::sign(
        format!("cosignature/v1\ntime {time}\n{}", note.text),
        [&key],
    )
    .to_string();
    let signature = STANDARD
        .decode(signed.trim_end().rsplit(' ').next().unwrap())
        .unwrap();
    let id = witness.to_string();
    let id = u32::from_str_radix(id.split('+').nth(1).unwrap(), 16).unwrap();
    let line = [&id.to_be_bytes()[..], &time.to_be_bytes(), &signature[4..]].concat();
    (
        witness,
        format!("{checkpoint}— {name} {}\n", STANDARD.encode(line)),
    )
}

/// The program that reads a log with Go's own implementation of signed notes and tiled logs.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/testbed/tlog");

/// What the reference says of a log; none where there is no Go, unless this is CI.
fn reference(log: &Path) -> Option<std::process::Output> {
    let has_go = std::process::Command::new("go").arg("version").output();
    if has_go.is_err() && std::env::var_os("CI").is_none() {
        return None;
    }
    let mut go = std::process::Command::new("go");
    go.args(["run", "."])
        .arg(log)
        .arg(vkey(1))
        .current_dir(REFERENCE);
    Some(go.output().unwrap())
}

#[test]
fn the_reference_implementation_proves_the_log_and_finds_what_was_done_to_it() {
    let copy = Copy::new();
    let folder = copy.0.path().to_owned();
    // More than fit into one tile.
    block_on(async move {
        commit(&folder, "standard", 1, FILES, 300).await;
        record(&folder, (1, None), None, || true).await;
    });
    assert_eq!(copy.verify(&[]).code, 0);
    let log = copy.path(LOG);
    let Some(said) = reference(&log) else { return };
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        text.starts_with("306 leaves and 3 checkpoints proven"),
        "{said:?}"
    );
    let tile = format!("{LOG}/tile/0/001.p/50");
    let mut bytes = copy.read(&tile);
    bytes[40] ^= 1;
    copy.write(&tile, bytes);
    assert_eq!(reference(&log).unwrap().status.code(), Some(1));
    copy.expect(&[], 1, &tile, "it is not what the entries of the log make");
}
