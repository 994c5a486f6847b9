// Package conformance runs the official conformance suite of Gateway API, of the version in go.mod, against one cluster.
//
// In: KUBECONFIG of an API server with that version's CRDs and nothing else, a controller that serves it, and tests.yaml.
// Out: a table with every test of the suite by name, and exit status 0 if each did what tests.yaml says. It starts no server,
// and sends no traffic to any data plane.
package conformance

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	suiteconformance "sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"apisix-etcd-controller/tools/conformance/lists"
)

var (
	listsPath      = flag.String("lists", "tests.yaml", "the lists of tests")
	apisixVersion  = flag.String("apisix-version", "", "the version of APISIX that the controller was told")
	controllerName = flag.String("controller-name", "", "the spec.controllerName that the controller serves")
	tablePath      = flag.String("table", "", "where the table goes; standard output if empty")
	docsPath       = flag.String("docs", "", "check that the lists stand in this document, and run nothing")
	bless          = flag.Bool("bless", false, "with -docs: write them there instead")
)

// A controller answers in milliseconds; this leaves room for a busy machine. The suite's own limits are up to five minutes,
// and a limit is only reached by a test that fails.
const patience = 30 * time.Second

// What a test that cannot pass waits for does not come however long it waits.
const shortPatience = 3 * time.Second

// What one run is about, for TestMain to judge when it is over.
var (
	planned    []lists.Planned
	plane      *lists.DataPlane
	outcomes   = map[string]lists.Outcome{}
	complaints []string
)

func TestMain(m *testing.M) {
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	os.Exit(status)
}

func run(m *testing.M) (int, error) {
	listed, err := lists.Read(*listsPath)
	if err != nil {
		return 0, err
	}
	names := []string{}
	for _, test := range tests.ConformanceTests {
		names = append(names, test.ShortName)
	}
	if wrong := listed.Check(names); len(wrong) > 0 {
		for _, complaint := range wrong {
			fmt.Fprintln(os.Stderr, "conformance:", complaint)
		}
		return 0, fmt.Errorf("%s does not fit the suite", *listsPath)
	}
	if *docsPath != "" {
		return 0, document(listed)
	}
	if plane, err = listed.DataPlane(*apisixVersion); err != nil {
		return 0, err
	}
	planned = listed.Plan(*apisixVersion)
	m.Run()
	return report()
}

// document checks that the lists stand in the document as they are, or writes them there.
func document(listed *lists.Lists) error {
	text, err := os.ReadFile(*docsPath)
	if err != nil {
		return err
	}
	wanted, err := listed.Into(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", *docsPath, err)
	case wanted == string(text):
		return nil
	case !*bless:
		return fmt.Errorf("%s does not say what %s says: run `BLESS=1 make conformance`", *docsPath, *listsPath)
	}
	return os.WriteFile(*docsPath, []byte(wanted), 0o644)
}

func report() (int, error) {
	lines := lists.Judge(planned, outcomes)
	table := lists.Table("Conformance suite, APISIX "+*apisixVersion, lines, complaints)
	if *tablePath == "" {
		fmt.Print(table)
	} else if err := os.WriteFile(*tablePath, []byte(table), 0o644); err != nil {
		return 0, err
	}
	if lists.Wrong(lines)+len(complaints) > 0 {
		return 1, nil
	}
	return 0, nil
}

// TestConformance is the suite's own way to run, with its tests wrapped so that their outcomes are known by name.
func TestConformance(t *testing.T) {
	options := suiteconformance.DefaultOptions(t)
	base, err := withoutGateways(&suiteconformance.Manifests)
	if err != nil {
		t.Fatal(err)
	}
	options.ManifestFS = []fs.FS{base, &suiteconformance.Manifests}
	options.BaseManifests = baseManifests
	// Namespaces would never be gone: nobody runs the namespace controller.
	options.CleanupBaseResources = false
	options.TimeoutConfig = timeouts(patience)
	for _, feature := range plane.Features {
		options.SupportedFeatures = append(options.SupportedFeatures, features.FeatureName(feature))
	}
	prepare(t, options.Client, options.GatewayClassName, *controllerName)
	conformance, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := wrap(tests.ConformanceTests)
	conformance.Setup(t, wrapped)
	reported, err := reportedFeatures(options.Client, options.GatewayClassName)
	if err != nil {
		t.Fatal(err)
	}
	complaints = lists.JudgeFeatures(plane, reported)
	if err := conformance.Run(t, wrapped); err != nil {
		t.Fatal(err)
	}
}

// wrap picks the tests that are to run, and makes each leave its outcome. What is wrapped is the whole test with its
// manifests, so that nothing of it goes unseen.
func wrap(all []suite.ConformanceTest) []suite.ConformanceTest {
	expectations := map[string]lists.Expectation{}
	for _, test := range planned {
		expectations[test.Name] = test.Expectation
	}
	wrapped := []suite.ConformanceTest{}
	for _, test := range all {
		expectation, ok := expectations[test.ShortName]
		if !ok || expectation == lists.NotRun {
			continue
		}
		wait := patience
		if expectation == lists.Fails {
			wait = shortPatience
		}
		// No features: the test inside is skipped for one that is not claimed, and that is seen.
		wrapped = append(wrapped, suite.ConformanceTest{
			ShortName:   test.ShortName,
			Description: test.Description,
			Provisional: test.Provisional,
			Test:        watched(test, wait),
		})
	}
	return wrapped
}

func watched(test suite.ConformanceTest, wait time.Duration) func(*testing.T, *suite.ConformanceTestSuite) {
	// One after another: a Gateway of one test that is not ready holds up every other test beside it.
	test.Parallel = false
	body := test.Test
	looks := 0
	test.Test = func(t *testing.T, conformance *suite.ConformanceTestSuite) {
		counting := &counting{Client: conformance.Client}
		// The suite makes another client before each test.
		conformance.Client = counting
		defer func() { looks = int(counting.looks.Load()) }()
		body(t, conformance)
	}
	return func(t *testing.T, conformance *suite.ConformanceTestSuite) {
		started := time.Now()
		// The first to be registered is the last to run: after the test's own clean-up, which may fail as well.
		t.Cleanup(func() {
			outcomes[test.ShortName] = lists.Outcome{
				Failed:  t.Failed(),
				Skipped: t.Skipped(),
				Looks:   looks,
				Took:    time.Since(started),
			}
		})
		conformance.TimeoutConfig = timeouts(wait)
		test.Run(t, conformance)
	}
}

// timeouts are the suite's, with everything that waits for a controller cut to limit.
func timeouts(limit time.Duration) config.TimeoutConfig {
	cut := config.DefaultTimeoutConfig()
	for _, wait := range []*time.Duration{
		&cut.GatewayMustHaveAddress, &cut.GatewayMustHaveCondition, &cut.GatewayStatusMustHaveListeners,
		&cut.GatewayListenersMustHaveConditions, &cut.ListenerSetMustHaveCondition,
		&cut.ListenerSetListenersMustHaveConditions, &cut.GWCMustBeAccepted, &cut.HTTPRouteMustNotHaveParents,
		&cut.HTTPRouteMustHaveCondition, &cut.TLSRouteMustHaveCondition, &cut.TCPRouteMustHaveCondition,
		&cut.UDPRouteMustHaveCondition, &cut.RouteMustHaveParents, &cut.NamespacesMustBeReady,
		&cut.LatestObservedGenerationSet, &cut.DefaultTestTimeout,
	} {
		*wait = min(*wait, limit)
	}
	return cut
}
