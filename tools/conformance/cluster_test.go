package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	siteyaml "sigs.k8s.io/yaml"
)

// baseManifests is where the suite finds what withoutGateways makes.
const baseManifests = "layer4/manifests.yaml"

// withoutGateways is the suite's own base manifests but for their Gateways: those have HTTP and HTTPS listeners only, and no
// test would run before each is accepted.
func withoutGateways(from fs.FS) (fs.FS, error) {
	text, err := fs.ReadFile(from, "base/manifests.yaml")
	if err != nil {
		return nil, err
	}
	kept := &bytes.Buffer{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := unstructured.Unstructured{}
		if err := decoder.Decode(&object); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) == 0 || object.GetKind() == "Gateway" {
			continue
		}
		document, err := siteyaml.Marshal(object.Object)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(kept, "---\n%s", document)
	}
	return fstest.MapFS{baseManifests: &fstest.MapFile{Data: kept.Bytes()}}, nil
}

// prepare makes what the suite expects to find or waits for: a GatewayClass of the controller, and in each namespace a Pod
// that is ready. No kubelet runs, so the Pod's status is written here.
func prepare(t *testing.T, cluster client.Client, class, controller string) {
	t.Helper()
	ctx := context.Background()
	create := func(object client.Object) {
		t.Helper()
		if err := cluster.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
		}
	}
	create(&gatewayv1.GatewayClass{
		ObjectMeta: metav1.ObjectMeta{Name: class},
		Spec:       gatewayv1.GatewayClassSpec{ControllerName: gatewayv1.GatewayController(controller)},
	})
	for _, namespace := range []string{suite.InfrastructureNamespace, suite.AppBackendNamespace, suite.WebBackendNamespace} {
		create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "stand-in", Namespace: namespace},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "none", Image: "none"}}},
		}
		create(pod)
		pod.Status = corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		}
		if err := cluster.Status().Update(ctx, pod); err != nil {
			t.Fatalf("saying that a Pod in %s is ready: %v", namespace, err)
		}
	}
}

// reportedFeatures are those that the GatewayClass's status names.
func reportedFeatures(cluster client.Client, class string) ([]string, error) {
	object := &gatewayv1.GatewayClass{}
	if err := cluster.Get(context.Background(), client.ObjectKey{Name: class}, object); err != nil {
		return nil, err
	}
	names := []string{}
	for _, feature := range object.Status.SupportedFeatures {
		names = append(names, string(feature.Name))
	}
	return names, nil
}

// counting counts how often a test asks the API server for something.
type counting struct {
	client.Client
	looks atomic.Int64
}

func (counting *counting) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	counting.looks.Add(1)
	return counting.Client.Get(ctx, key, into, options...)
}

func (counting *counting) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	counting.looks.Add(1)
	return counting.Client.List(ctx, into, options...)
}
