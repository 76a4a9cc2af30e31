//! What a new sample cluster holds: a small shop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::resource_types::by_path;
use super::{SEEDED_PASSWORD, State};

/// Pods of namespace `shop`: name, app, image, service account.
const PODS: [(&str, &str, &str, &str); 3] = [
    ("web-6d4b75cb6d-hk2vp", "web", "shop/web:2.4.1", "default"),
    (
        "checkout-7f9c6d5b8-x2k4q",
        "checkout",
        "shop/checkout:1.19.0",
        "default",
    ),
    (
        "payments-5c8d7f6b9-lm7tp",
        "payments",
        "shop/payments:3.0.2",
        "payments",
    ),
];

/// The log of the pod that runs as the service account `payments`.
const PAYMENTS_LOG: [&str; 4] = [
    "level=info msg=\"started as system:serviceaccount:shop:payments\"",
    "level=info msg=\"charge accepted\" order=10041 amount=12.90",
    "level=warn msg=\"charge retried\" order=10042 attempt=2",
    "level=info msg=\"charge accepted\" order=10042 amount=48.00",
];

/// Fills a new cluster.
pub(super) fn seed(state: &State) {
    let put = |object: Value| state.objects.put(object).expect("the seed is served");
    for name in ["default", "kube-system", "shop"] {
        put(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }));
        put(service_account(name, "default"));
    }
    put(service_account("shop", "payments"));
    for name in ["node-1", "node-2"] {
        put(node(name));
    }
    for (name, app, image, account) in PODS {
        put(pod("shop", name, app, image, account));
        put(deployment(app, image));
        put(replica_set(app, name));
        put(service(app));
    }
    put(pod(
        "kube-system",
        "coredns-668d6bf9bc-7wq2n",
        "coredns",
        "coredns:1.12.0",
        "default",
    ));
    for line in PAYMENTS_LOG {
        state.logs.append("shop", PODS[2].0, line);
    }
    state.logs.append("shop", PODS[0].0, "GET / 200 3ms");
    state.logs.append("shop", PODS[1].0, "checkout ready");
    put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "web-settings", "namespace": "shop"},
        "data": {"theme": "light", "currency": "EUR"},
    }));
    for secret in secrets() {
        put(secret);
    }
    let pods = by_path("", "v1", "pods").expect("pods are served");
    let web = state.objects.get(pods, "shop", PODS[0].0);
    let uid = web.map(|web| web["metadata"]["uid"].clone());
    put(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "web-started.17f", "namespace": "shop"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": PODS[0].0, "uid": uid},
        "type": "Normal", "reason": "Started", "message": "Started container web", "count": 1,
        "source": {"component": "kubelet", "host": "node-1"},
    }));
}

fn secrets() -> [Value; 2] {
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "db-credentials", "namespace": "shop"},
        "stringData": {"username": "shop", "password": SEEDED_PASSWORD},
    });
    [
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {
                "name": "db-credentials", "namespace": "shop",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()},
            },
            "data": {"username": STANDARD.encode("shop"), "password": STANDARD.encode(SEEDED_PASSWORD)},
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "payments-api", "namespace": "shop"},
            "data": {"token": STANDARD.encode(format!("live-{SEEDED_PASSWORD}"))},
        }),
    ]
}

/// One of many secrets for tests of size.
pub(super) fn big_secret(namespace: &str, index: usize, bytes: usize) -> Value {
    let value: String = (0..bytes)
        .map(|i| char::from(b'a' + (i % 26) as u8))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": format!("big-{index:05}"), "namespace": namespace},
        "data": {"value": STANDARD.encode(value)},
    })
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    })
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "addresses": [{"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
            "nodeInfo": {"kubeletVersion": "v1.33.0", "osImage": "sample", "architecture": "amd64",
                "operatingSystem": "linux", "containerRuntimeVersion": "sample://1", "kernelVersion": "",
                "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": ""},
        },
    })
}

fn pod(namespace: &str, name: &str, app: &str, image: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "containers": [{"name": app, "image": image, "resources": {}, "terminationMessagePath": "/dev/termination-log"}],
            "serviceAccountName": account,
            "nodeName": "node-1",
            "restartPolicy": "Always",
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.17",
            "hostIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": app, "image": image, "imageID": "", "ready": true, "restartCount": 0,
                "started": true, "state": {"running": {"startedAt": super::objects::now()}},
            }],
        },
    })
}

fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": app, "image": image, "resources": {}}]},
    })
}

fn deployment(app: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": app, "namespace": "shop", "labels": {"app": app}, "generation": 1},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": app}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template(app, image),
        },
        "status": {
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
        },
    })
}

fn replica_set(app: &str, pod: &str) -> Value {
    let name = pod.rsplit_once('-').map_or(pod, |(name, _)| name);
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": template(app, "")},
        "status": {"replicas": 1, "readyReplicas": 1},
    })
}

fn service(app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": app, "namespace": "shop", "labels": {"app": app}},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    })
}
