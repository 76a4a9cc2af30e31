//! The cluster with a node, and `hoop up` in front of it: what pods can be run on.

use std::sync::Arc;

use anyhow::Result;
use hoop_tests::testbed::{ApiServer, IMAGE, Kubectl, Node, Run};

use crate::pipeline::{Cluster, Pipeline};

/// A cluster that runs pods, behind a gateway of its own.
pub(crate) struct NodeCluster {
    // Ended in this order.
    pub(crate) pipeline: Pipeline,
    _node: Node,
    pub(crate) server: ApiServer,
}

impl NodeCluster {
    pub(crate) fn start(run: Arc<Run>) -> Result<Self> {
        let server = ApiServer::start(&run, "node-cluster")?;
        let node = Node::start(&run, &server)?;
        let pipeline = Pipeline::start(run, "node", Cluster::Real(&server))?;
        Ok(Self {
            pipeline,
            _node: node,
            server,
        })
    }

    /// Runs pods with these names and this command in a namespace, and waits until they are ready.
    pub(crate) fn run_pods(&self, namespace: &str, names: &[&str], command: &str) -> Result<()> {
        for name in names {
            self.server.kubectl().apply(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, \
                 spec: {{containers: [{{name: main, image: '{IMAGE}', stdin: true, stdinOnce: true, \
                 command: [sh, -c, '{command}']}}], restartPolicy: Never}}}}"
            ))?;
        }
        wait_for_pods(&self.server.kubectl(), namespace)
    }
}

/// Waits until every pod of a namespace is ready.
pub(crate) fn wait_for_pods(kubectl: &Kubectl, namespace: &str) -> Result<()> {
    let wait = [
        "-n",
        namespace,
        "wait",
        "pods",
        "--all",
        "--for=condition=Ready",
        "--timeout=60s",
    ];
    kubectl.run(&wait)?.expect_success()?;
    Ok(())
}
