//! The command lines, in the order in which they are run: most need what earlier ones made.
//!
//! `SIDE` stands for the name that one side has for itself, `IMAGE` and `LATER` for the images of pods, `NODE` for the
//! node, `FOLDER` for a folder of the side's own. A line is split at blanks outside of single quotes.

use super::{Compare, Row, row};

/// Why `auth whoami` differs.
const CREDENTIAL: &str =
    "the API server names the credential it was shown, and that is the gateway's own";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: front, labels: {app: web}}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

const SERVICE_CHANGED: &str = "
apiVersion: v1
kind: Service
metadata: {name: front, labels: {app: web}}
spec: {selector: {app: web}, ports: [{port: 81, targetPort: 8080}]}
";

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
";

const SETTINGS_CHANGED: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
";

const STALE: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, resourceVersion: \"1\"}
data: {colour: red}
";

const INVALID: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: broken}
spec: {replicas: -1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}}
";

const UNKNOWN_FIELD: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: odd}
dada: {colour: blue}
";

const UNKNOWN_KIND: &str = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: widget}
";

const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reconciled}
rules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]
";

const SIGNING_REQUEST: &str = "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: SIDE-csr}
spec:
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
  request: CSR
";

/// Every command line.
pub(super) fn rows() -> Vec<Row> {
    [
        server(),
        objects(),
        workloads(),
        changes(),
        pods(),
        nodes(),
        errors(),
        ends(),
    ]
    .concat()
}

/// What the server and the kubeconfig are, and what a person may do.
fn server() -> Vec<Row> {
    vec![
        row("version"),
        row("version -o json"),
        row("cluster-info"),
        row("api-versions"),
        row("api-resources"),
        row("api-resources --namespaced=false -o name"),
        row("api-resources --api-group=apps --verbs=list -o wide"),
        row("explain pods.spec.containers"),
        row("explain deployments.spec --recursive"),
        row("explain service --output=plaintext-openapiv2"),
        row("get --raw /readyz"),
        row("get --raw /apis/apps"),
        row("config current-context"),
        row("config get-contexts"),
        row("config view --minify"),
        row("auth can-i create pods"),
        row("auth can-i get secrets --all-namespaces"),
        row("auth can-i list pods --subresource=log"),
        row("auth can-i --list").differs(
            "the gateway answers with its own rules and the cluster's together, unsimplified",
        ),
        row("auth whoami").differs(CREDENTIAL),
        row("auth whoami -o yaml").differs(CREDENTIAL),
    ]
}

/// Objects without pods.
fn objects() -> Vec<Row> {
    vec![
        row("create configmap sky --from-literal=colour=blue"),
        row("create configmap sky --from-literal=colour=blue"),
        row("create configmap dry --from-literal=a=b --dry-run=server -o yaml"),
        row("create secret generic db --from-literal=password=hunter2"),
        row("get secret db -o jsonpath={.data.password}"),
        row("get secrets"),
        row("get secret db -o yaml"),
        row("describe secret db"),
        row("create serviceaccount robot"),
        row("create token robot --duration=10m"),
        row("create role reader --verb=get,list --resource=pods"),
        row("create rolebinding reader --role=reader --serviceaccount=SIDE:robot"),
        row("describe rolebinding reader"),
        row("create clusterrole SIDE-reader --verb=get --resource=nodes"),
        row("get clusterrole SIDE-reader"),
        row("auth reconcile -f -").input(ROLE),
        row("auth can-i list pods --as=system:serviceaccount:SIDE:robot"),
        row("create quota small --hard=configmaps=50"),
        row("create namespace SIDE-more"),
        row("get namespace SIDE-more -o name"),
        row("apply -f -").input(SERVICE),
        row("apply -f -").input(SERVICE),
        row("diff -f -").input(SERVICE_CHANGED),
        row("apply -f -").input(SERVICE_CHANGED),
        row("apply view-last-applied service front"),
        row("get service front -o yaml"),
        row("apply --server-side -f -").input(SETTINGS),
        row("apply --server-side --field-manager=other -f -").input(SETTINGS_CHANGED),
        row("apply --server-side --field-manager=other --force-conflicts -f -")
            .input(SETTINGS_CHANGED),
        row("get configmap settings -o yaml --show-managed-fields"),
        row("get configmaps --chunk-size=1"),
        row("get configmaps -o name --sort-by=.metadata.name"),
        row("describe configmap settings"),
        row("edit configmap settings"),
    ]
}

/// Deployments and jobs.
fn workloads() -> Vec<Row> {
    vec![
        row("create deployment web --image=IMAGE --replicas=2"),
        row("rollout status deployment/web --timeout=60s").compare(Compare::LastLine),
        row("get deployments"),
        row("get deployment web -o wide"),
        row("get deployment web -o json"),
        row("get deployment web -o yaml"),
        row("get deployment web -o name"),
        row("get deployment web -o jsonpath={.spec.replicas}/{.status.readyReplicas}"),
        row("get deployment web -o custom-columns=NAME:.metadata.name,WANTED:.spec.replicas"),
        row("get deployment web -o go-template={{.metadata.name}}"),
        row("get pods -l app=web --show-labels").compare(Compare::Sorted),
        row("get pods -l app=web --field-selector=status.phase=Running -o name"),
        row("get all -l app=web").compare(Compare::Sorted),
        row("describe deployment web").compare(Compare::Sorted),
        row("create job once --image=IMAGE -- echo done"),
        row("wait job/once --for=condition=complete --timeout=60s"),
        row("logs job/once"),
        row("create cronjob daily --image=IMAGE --schedule='0 0 * * *'"),
        row("get cronjobs"),
        row("create poddisruptionbudget web --selector=app=web --min-available=0"),
        row("get poddisruptionbudgets web -o name"),
        row("autoscale deployment web --min=1 --max=3 --cpu=80%"),
        row("get horizontalpodautoscalers -o name"),
        row("delete horizontalpodautoscaler web"),
        row("expose deployment web --port=80 --name=exposed"),
        row("get service exposed"),
    ]
}

/// Changes of a deployment.
fn changes() -> Vec<Row> {
    vec![
        row("label deployment web tier=front"),
        row("label deployment web tier=back"),
        row("label --overwrite deployment web tier=back"),
        row("annotate deployment web note='a few words'"),
        row("patch deployment web -p '{\"spec\":{\"minReadySeconds\":0}}'"),
        row(
            "patch deployment web --type=merge -p '{\"metadata\":{\"labels\":{\"by\":\"merge\"}}}'",
        ),
        row(
            "patch deployment web --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/labels/by\"}]'",
        ),
        row(
            "patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":9}]'",
        ),
        row(
            "patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":1}}'",
        ),
        row("scale deployment web --replicas=2"),
        row("scale deployment web --current-replicas=9 --replicas=3"),
        row("set image deployment/web busybox=LATER"),
        row("set env deployment/web COLOUR=blue"),
        row("set env deployment/web --list"),
        row("set resources deployment web --requests=cpu=1m"),
        row("rollout status deployment/web --timeout=60s").compare(Compare::LastLine),
        row("rollout history deployment/web"),
        row("rollout history deployment/web --revision=1"),
        row("rollout undo deployment/web"),
        row("rollout restart deployment/web"),
        row("rollout pause deployment/web"),
        row("rollout resume deployment/web"),
        row("rollout status deployment/web --timeout=60s").compare(Compare::LastLine),
        row("wait deployment/web --for=condition=Available --timeout=60s"),
        row("wait deployment/web --for=jsonpath={.spec.replicas}=2 --timeout=5s"),
    ]
}

/// One pod.
fn pods() -> Vec<Row> {
    vec![
        row("run one --image=IMAGE --restart=Never -- sh -c 'echo hello; sleep 1000000'"),
        row("wait pod/one --for=condition=Ready --timeout=60s"),
        row("get pod one -o wide"),
        row("get pod one -o yaml"),
        row("describe pod one").compare(Compare::Sorted),
        row("logs one"),
        row("logs one --tail=1 --prefix"),
        row("logs one --container=none"),
        row("exec one -- cat /etc/passwd"),
        row("exec one -- sh -c 'echo out; echo err >&2; exit 3'"),
        row("exec -i one -- cat").input("typed\n"),
        row("exec one -- nosuchprogram"),
        row("exec one --container=none -- true"),
        row("cp one:/etc/passwd FOLDER/passwd"),
        row("cp FOLDER/passwd one:/tmp/passwd"),
        row("exec one -- sha256sum /tmp/passwd"),
        row("get --raw /api/v1/namespaces/SIDE/pods/one/log"),
        row("events --for pod/one").compare(Compare::Sorted),
        row(
            "get events --field-selector=involvedObject.name=one,reason=Scheduled -o jsonpath={.items[*].reason}",
        ),
        row("top pods"),
    ]
}

/// The node, which both sides share, and certificates.
fn nodes() -> Vec<Row> {
    vec![
        row("get nodes"),
        row("get node NODE -o jsonpath={.metadata.labels}"),
        row("top nodes"),
        row("taint nodes NODE SIDE=yes:PreferNoSchedule").shared(),
        row("taint nodes NODE SIDE:PreferNoSchedule-").shared(),
        row("cordon NODE --dry-run=client").shared(),
        row("cordon NODE").shared(),
        row("uncordon NODE").shared(),
        row("drain NODE --pod-selector=run=none,side=SIDE --ignore-daemonsets").shared(),
        row("uncordon NODE").shared(),
        row("create -f -").input(SIGNING_REQUEST),
        row("get csr SIDE-csr -o name"),
        row("certificate approve SIDE-csr"),
        row("wait csr/SIDE-csr --for=condition=Approved --timeout=10s"),
        row("certificate deny SIDE-csr"),
        row("delete csr SIDE-csr"),
    ]
}

/// What does not work says so in the same words.
fn errors() -> Vec<Row> {
    vec![
        row("get pod missing"),
        row("get nosuchkinds"),
        row("get pods -n SIDE-none"),
        row("get --raw /apis/none.example/v1"),
        row("get --raw /api/v1/namespaces/SIDE/pods/missing"),
        row("describe pod missing"),
        row("create -f -").input(INVALID),
        row("create -f -").input(UNKNOWN_FIELD),
        row("create -f -").input(UNKNOWN_KIND),
        row("create -f -").input("not: [an object"),
        row("replace -f -").input(STALE),
        row("exec missing -- true"),
        row("attach missing"),
        row("logs missing"),
        row("port-forward pod/missing :80"),
        row("scale deployment missing --replicas=1"),
        row("rollout status deployment/missing"),
        row("patch deployment web -p '{\"spec\":{\"replicas\":\"two\"}}'"),
        row("label node missing a=b"),
        row("wait configmap/sky --for=delete --timeout=1s"),
        row("get pods --as=somebody"),
        row("create token missing"),
        row("auth can-i nosuchverb pods"),
    ]
}

/// Deletions.
fn ends() -> Vec<Row> {
    vec![
        row("delete configmap sky"),
        row("delete configmap sky"),
        row("delete configmap sky --ignore-not-found"),
        row("delete pod one --grace-period=0 --force"),
        row("delete service front exposed"),
        row("delete -f -").input(SETTINGS),
        row("delete deployment web --cascade=foreground --timeout=60s"),
        row("delete job,cronjob --all"),
        row("delete clusterrole SIDE-reader"),
        row("delete namespace SIDE-more --wait=false"),
        row("delete secrets --all -o name"),
        row("get secrets"),
    ]
}
