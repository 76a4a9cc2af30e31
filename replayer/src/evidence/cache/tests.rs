use super::*;

fn identity(version: &str) -> Identity {
    Identity::new("s3://audit", "events/v1/x.parquet", 1_000, version)
}

fn cache(folder: &Path, bytes_max: u64) -> Arc<Cache> {
    Arc::new(Cache::open(folder, bytes_max).unwrap())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

#[tokio::test]
async fn what_goes_in_comes_out_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), BYTES_MAX);
    let bytes = Bytes::from_static(b"evidence");
    cache.put(&identity("1"), &(10..18), &bytes).await;
    assert_eq!(cache.get(&identity("1"), &(10..18)).await, Some(bytes));
    assert_eq!(cache.get(&identity("1"), &(10..17)).await, None);
    assert_eq!(cache.get(&identity("1"), &(11..19)).await, None);
    assert_eq!(cache.get(&identity("2"), &(10..18)).await, None, "replaced");
    let other = Identity::new("s3://other", "events/v1/x.parquet", 1_000, "1");
    assert_eq!(cache.get(&other, &(10..18)).await, None);
}

#[tokio::test]
async fn any_damage_to_an_entry_is_a_miss_and_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), BYTES_MAX);
    let bytes = Bytes::from_static(b"evidence");
    let whole = {
        cache.put(&identity("1"), &(0..8), &bytes).await;
        fs::read(&entries(folder.path())[0]).unwrap()
    };
    let mut damaged: Vec<Vec<u8>> = (0..whole.len())
        .map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        })
        .collect();
    damaged.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
    damaged.push([&whole[..], b"x"].concat());
    for content in damaged {
        cache.put(&identity("1"), &(0..8), &bytes).await;
        let entry = entries(folder.path()).remove(0);
        fs::write(&entry, &content).unwrap();
        assert_eq!(cache.get(&identity("1"), &(0..8)).await, None);
        assert!(!entry.exists());
    }
}

#[tokio::test]
async fn an_entry_under_the_name_of_another_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), BYTES_MAX);
    cache
        .put(&identity("1"), &(0..8), &Bytes::from_static(b"evidence"))
        .await;
    let one = entries(folder.path()).remove(0);
    cache
        .put(&identity("2"), &(0..8), &Bytes::from_static(b"altered!"))
        .await;
    let other = entries(folder.path())
        .into_iter()
        .find(|entry| *entry != one)
        .unwrap();
    fs::rename(other, one).unwrap();
    assert_eq!(cache.get(&identity("1"), &(0..8)).await, None);
}

#[tokio::test]
async fn what_was_read_last_stays_when_there_is_no_room_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let entry_bytes = 1_000 + HEADER_BYTES as u64;
    let cache = cache(folder.path(), 10 * entry_bytes);
    let bytes = Bytes::from(vec![7; 1_000]);
    let range = |n: u64| n * 1_000..(n + 1) * 1_000;
    for n in 0..10 {
        cache.put(&identity("1"), &range(n), &bytes).await;
        // Times of files are coarse on some file systems.
        let then = SystemTime::now() - Duration::from_secs(100 - n);
        let path = folder.path().join(identity("1").entry(&range(n)));
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(then).unwrap();
    }
    assert!(cache.get(&identity("1"), &range(0)).await.is_some());
    cache.put(&identity("1"), &range(10), &bytes).await;
    let all = entries(folder.path());
    assert!(all.len() as u64 * entry_bytes <= 9 * entry_bytes, "{all:?}");
    assert!(cache.get(&identity("1"), &range(1)).await.is_none());
    assert!(cache.get(&identity("1"), &range(0)).await.is_some());
    assert!(cache.get(&identity("1"), &range(10)).await.is_some());
}

#[tokio::test]
async fn nobody_else_can_look_in() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a/hoop-replay");
    cache(&place, BYTES_MAX)
        .put(&identity("1"), &(0..1), &Bytes::from_static(b"x"))
        .await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    assert_eq!(mode(&entries(&place)[0]), 0o600);
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    cache(&place, BYTES_MAX);
    assert_eq!(mode(&place), 0o700);
}

#[tokio::test]
async fn processes_that_write_and_remove_at_once_read_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    // So little room that entries go all the time.
    let many = (0..4).map(|_| cache(folder.path(), 20_000));
    let work = many.map(|cache| {
        tokio::spawn(async move {
            for round in 0..50u64 {
                let n = round % 7;
                let range = n * 1_000..(n + 1) * 1_000;
                let wanted = Bytes::from(vec![n as u8; 1_000]);
                cache.put(&identity("1"), &range, &wanted).await;
                if let Some(found) = cache.get(&identity("1"), &range).await {
                    assert_eq!(found, wanted);
                }
            }
        })
    });
    for done in work.collect::<Vec<_>>() {
        done.await.unwrap();
    }
}

#[test]
fn the_environment_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let home = Some(folder.path().as_os_str().to_owned());
    let at = |environment: CacheEnvironment| environment.open().unwrap().map(|cache| cache.folder);
    let none = CacheEnvironment::default();
    assert_eq!(at(none.clone()), None, "no home, no cache");
    let of_home = CacheEnvironment {
        home: home.clone(),
        ..none.clone()
    };
    assert_eq!(
        at(of_home.clone()),
        Some(folder.path().join(".cache/hoop-replay"))
    );
    let xdg = CacheEnvironment {
        xdg_cache_home: home.clone(),
        ..none.clone()
    };
    assert_eq!(at(xdg), Some(folder.path().join("hoop-replay")));
    let named = CacheEnvironment {
        cache: Some(folder.path().join("here").into()),
        ..of_home.clone()
    };
    assert_eq!(at(named), Some(folder.path().join("here")));
    let off = CacheEnvironment {
        cache: Some("off".into()),
        ..of_home.clone()
    };
    assert_eq!(at(off), None);
    let wrong = CacheEnvironment {
        bytes_max: Some("much".into()),
        ..of_home
    };
    assert!(wrong.open().unwrap_err().contains("a number of bytes"));
}
