// Testbed runs the Kubernetes servers and clients that the end-to-end tests need, all from one binary.
//
//	testbed etcd DATA_DIR CLIENT_URL PEER_URL
//	testbed kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kubectl ARGS...
//	testbed informer KUBECONFIG NAMESPACE
//
// With HOOP_TEST_BED_LEASH set, a process ends when its standard input does: whoever starts a server holds the other
// end of that pipe, so the server cannot outlive a test run, however that run ends.
package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// exitUsage is the exit code for a command line that makes no sense (EX_USAGE of sysexits.h).
const exitUsage = 64

// leash ends the process once standard input is closed. Nothing is saved first: the servers' data is thrown away.
func leash() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// runEtcd serves one in-process etcd member from dataDir until it fails or the process is stopped.
func runEtcd(dataDir, clientURL, peerURL string) error {
	client, err := url.Parse(clientURL)
	if err != nil {
		return err
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "error"
	// The data lives as long as one test run, so it need not survive a power cut.
	config.UnsafeNoFsync = true
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	<-etcd.Server.ReadyNotify()
	fmt.Println("etcd ready")
	return <-etcd.Err()
}

// runInformer prints what an informer on the ConfigMaps of a namespace sees, as controllers are built: in protobuf if
// the server has it, by a watch that begins with a list. It ends when it is stopped.
func runInformer(kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	say := func(what string, object any) {
		if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = unknown.Obj
		}
		if found, ok := object.(*corev1.ConfigMap); ok {
			fmt.Println(what, found.Name, found.Data["value"])
		}
	}
	handlers := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { say("added", object) },
		UpdateFunc: func(_, object any) { say("updated", object) },
		DeleteFunc: func(object any) { say("deleted", object) },
	}
	if _, err := informer.AddEventHandler(handlers); err != nil {
		return err
	}
	factory.Start(nil)
	if !cache.WaitForCacheSync(nil, informer.HasSynced) {
		return fmt.Errorf("the informer did not get its first list")
	}
	fmt.Println("synced")
	select {}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testbed etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kubectl|informer ...")
		os.Exit(exitUsage)
	}
	if os.Getenv("HOOP_TEST_BED_LEASH") != "" {
		go leash()
	}
	component := os.Args[1]
	os.Args = os.Args[1:]
	switch component {
	case "etcd":
		if len(os.Args) != 4 {
			fmt.Fprintln(os.Stderr, "usage: testbed etcd DATA_DIR CLIENT_URL PEER_URL")
			os.Exit(exitUsage)
		}
		if err := runEtcd(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "informer":
		if len(os.Args) != 3 {
			fmt.Fprintln(os.Stderr, "usage: testbed informer KUBECONFIG NAMESPACE")
			os.Exit(exitUsage)
		}
		if err := runInformer(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	default:
		fmt.Fprintf(os.Stderr, "testbed: unknown component %q\n", component)
		os.Exit(exitUsage)
	}
}
