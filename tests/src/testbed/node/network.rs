//! The network of a node: a bridge of its own, which is the node's address as well as that of its pods' gateway. A
//! kubelet refuses an address of the loopback interface.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{run_tool, tool};

/// The networks to choose from: `10.88.<number>.0/24`.
const NETWORKS: std::ops::RangeInclusive<u8> = 1..=250;

/// Begins the name of every bridge; the number of the network follows.
const NAME: &str = "hoop-tb-";

/// Where the CNI plugins are, on Debian and elsewhere.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// A bridge that belongs to one node.
pub(crate) struct Bridge {
    number: u8,
    configuration: PathBuf,
}

impl Bridge {
    /// Creates one on a network that is not in use, and writes the CNI configuration for it into `folder`. Its name is
    /// in the file `bridge` there before it exists.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        for number in NETWORKS {
            let name = format!("{NAME}{number}");
            let in_use = run_tool(tool("ip").args(["-4", "-oneline", "address", "show"]))?;
            if in_use.contains(&format!(" 10.88.{number}.")) {
                continue;
            }
            let mut add = tool("ip");
            add.args(["link", "add", &name, "type", "bridge"]);
            // Somebody else's if it is there: creating it is what makes it ours.
            if run_tool(&mut add).is_err() {
                continue;
            }
            std::fs::write(name_file(folder), &name)?;
            let bridge = Self {
                number,
                configuration: folder.join("network"),
            };
            let address = format!("{}/24", bridge.address());
            run_tool(tool("ip").args(["address", "add", &address, "dev", &name]))?;
            run_tool(tool("ip").args(["link", "set", &name, "up"]))?;
            bridge.write_configuration(folder, &name)?;
            return Ok(bridge);
        }
        bail!(
            "no bridge could be made: all networks 10.88.x.0/24 are in use, or this is not allowed"
        )
    }

    /// The node's own address.
    pub(crate) fn address(&self) -> String {
        format!("10.88.{}.1", self.number)
    }

    /// The folder with the CNI configuration.
    pub(crate) fn configuration(&self) -> &Path {
        &self.configuration
    }

    fn write_configuration(&self, folder: &Path, name: &str) -> Result<()> {
        std::fs::create_dir_all(&self.configuration)?;
        let subnet = format!("10.88.{}.0/24", self.number);
        let configuration = json!({
            "cniVersion": "1.0.0",
            // Also the beginning of the names of the files that the plugins keep.
            "name": name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": name,
                    "isGateway": true,
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": folder.join("addresses"),
                        "ranges": [[{"subnet": subnet}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "loopback"},
            ],
        });
        let file = self.configuration.join("10-hoop.conflist");
        std::fs::write(&file, configuration.to_string())
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The folder of the CNI plugins.
pub(crate) fn plugins() -> Option<&'static str> {
    PLUGINS.into_iter().find(|folder| {
        ["bridge", "host-local", "loopback"]
            .iter()
            .all(|p| Path::new(folder).join(p).exists())
    })
}

/// The name of the bridge that the node in `folder` made, if it made one.
pub(crate) fn name_of_bridge(folder: &Path) -> Option<String> {
    let name = std::fs::read_to_string(name_file(folder)).ok()?;
    name.starts_with(NAME).then_some(name)
}

fn name_file(folder: &Path) -> PathBuf {
    folder.join("bridge")
}
