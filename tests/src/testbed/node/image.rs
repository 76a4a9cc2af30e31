//! The image for pods, as an archive that containerd imports: a static busybox and little else.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{run_tool, tool};

/// Where Debian and others put it.
const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";

/// Answers a POST with the length and the checksum of its body.
const SUM: &str = "#!/bin/sh
head -c \"$CONTENT_LENGTH\" > /tmp/body.$$
printf 'Content-Type: text/plain\\r\\n\\r\\n%s %s\\n' \"$CONTENT_LENGTH\" \"$(sha256sum < /tmp/body.$$)\"
rm -f /tmp/body.$$
";

/// The static busybox of this machine.
pub(crate) fn busybox() -> Option<&'static str> {
    BUSYBOX.into_iter().find(|path| {
        // A program that wants shared libraries names the loader that brings them.
        std::fs::read(path).is_ok_and(|program| !names_a_loader(&program))
    })
}

fn names_a_loader(program: &[u8]) -> bool {
    ["/ld-linux", "/ld-musl", "/lib64/ld"].iter().any(|loader| {
        program
            .windows(loader.len())
            .any(|w| w == loader.as_bytes())
    })
}

/// Writes the archive of one image under these names into `folder`, and returns where it is.
///
/// The format is Docker's: `manifest.json` names the configuration, the names of the image, and its one layer.
pub(crate) fn make(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    let folder = folder.join("image");
    let root = folder.join("root");
    fill(&root)?;
    pack(&root, &folder.join("layer.tar"), &["."])?;
    let layer = std::fs::read(folder.join("layer.tar"))?;
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Cmd": ["/bin/sleep", "1000000"],
            // The first process of a container ignores what it has no handler for: pods would take 30 s to go.
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    });
    std::fs::write(folder.join("config.json"), configuration.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]);
    std::fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    pack(&folder, &archive, &files)?;
    Ok(archive)
}

/// Makes the root folder of a container.
fn fill(root: &Path) -> Result<()> {
    let busybox = busybox().context("there is no static busybox on the PATH")?;
    for name in [
        "bin",
        "dev",
        "etc",
        "proc",
        "root",
        "sys",
        "tmp",
        "www/cgi-bin",
    ] {
        std::fs::create_dir_all(root.join(name))?;
    }
    set_mode(&root.join("tmp"), 0o1777)?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    set_mode(&root.join("bin/busybox"), 0o755)?;
    let applets = run_tool(tool(busybox).arg("--list"))?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("/bin/busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(root.join("etc/passwd"), PASSWD)?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    std::fs::write(root.join("www/index.html"), "hello from the pod\n")?;
    std::fs::write(root.join("www/cgi-bin/sum"), SUM)?;
    set_mode(&root.join("www/cgi-bin/sum"), 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn pack(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut command = tool("tar");
    command
        .args(["--create", "--numeric-owner", "--owner=0", "--group=0"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .args(names);
    run_tool(&mut command)?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
