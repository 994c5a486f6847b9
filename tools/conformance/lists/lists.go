// Package lists says what becomes of each test of the official conformance suite here.
//
// In: tests.yaml, and the names that the suite has. Out: for one data plane, what each test must do, and complaints where
// the lists and the suite do not agree. It knows no cluster and runs nothing.
package lists

import (
	"fmt"
	"os"
	"slices"
	"sort"

	"sigs.k8s.io/yaml"
)

// Lists is tests.yaml.
type Lists struct {
	// DataPlanes are what a run is for, in the order of their runs.
	DataPlanes []DataPlane `json:"data_planes"`
	// Run are the tests that are run.
	Run []Test `json:"run"`
	// ExpectedToFail are those among them that cannot pass, because something is not served.
	ExpectedToFail []Group `json:"expected_to_fail"`
	// NotRun are all other tests of the suite.
	NotRun []Group `json:"not_run"`
}

// DataPlane is the APISIX that one run of the suite is for.
type DataPlane struct {
	// APISIXVersion is what the controller is told, such as 3.18.
	APISIXVersion string `json:"apisix_version"`
	// Features are those of Gateway API that the run claims.
	Features []string `json:"features"`
	// FeaturesNotReported are those among them that the GatewayClass's status does not name.
	FeaturesNotReported []string `json:"features_not_reported"`
}

// Test is a test that is run.
type Test struct {
	// Name is its ShortName in the suite.
	Name string `json:"name"`
	// NotOn says for which versions of APISIX it is not run, and why.
	NotOn map[string]string `json:"not_on"`
	// ReturnsAtOnceOn says for which versions of APISIX it passes without a look at the cluster, by design, and why.
	ReturnsAtOnceOn map[string]string `json:"returns_at_once_on"`
}

// Group is tests that have a reason in common.
type Group struct {
	// Reason completes "they are not run because" or "they fail because".
	Reason string `json:"reason"`
	// OnlyOn are the versions of APISIX this is so for; all of them if there are none.
	OnlyOn []string `json:"only_on"`
	// Tests are their ShortNames.
	Tests []string `json:"tests"`
}

// Expectation is what a test must do in one run.
type Expectation int

const (
	// Passes after it has looked at the cluster.
	Passes Expectation = iota
	// ReturnsAtOnce and so passes without a look at the cluster.
	ReturnsAtOnce
	// Fails, because something is not served.
	Fails
	// NotRun at all.
	NotRun
)

// Planned is one test in one run.
type Planned struct {
	Name        string
	Expectation Expectation
	// Reason for anything but Passes.
	Reason string
}

// Read reads tests.yaml. A field it does not know is an error.
func Read(path string) (*Lists, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Parse reads the text of tests.yaml.
func Parse(text []byte) (*Lists, error) {
	lists := &Lists{}
	if err := yaml.UnmarshalStrict(text, lists); err != nil {
		return nil, fmt.Errorf("reading the lists of tests: %w", err)
	}
	return lists, nil
}

// Check compares the lists with each other and with the names of the suite's tests: every test is in exactly one of run and
// not_run, and every name and version stands for something.
func (lists *Lists) Check(suite []string) []string {
	complaints := []string{}
	complain := func(format string, arguments ...any) {
		complaints = append(complaints, fmt.Sprintf(format, arguments...))
	}
	seen := map[string]int{}
	for _, test := range lists.Run {
		seen[test.Name]++
	}
	for _, group := range lists.NotRun {
		for _, name := range group.Tests {
			seen[name]++
		}
	}
	for _, name := range suite {
		if seen[name] == 0 {
			complain("%s is a test of the suite and in no list: add it to run, or to not_run with a reason", name)
		}
	}
	for name, times := range seen {
		if !slices.Contains(suite, name) {
			complain("%s is listed, and the suite has no such test", name)
		}
		if times > 1 {
			complain("%s is listed %d times: leave it in one of run and not_run", name, times)
		}
	}
	lists.checkReasons(complain)
	sort.Strings(complaints)
	return complaints
}

func (lists *Lists) checkReasons(complain func(string, ...any)) {
	versions := lists.versions()
	checkVersion := func(place, version, reason string) {
		if !slices.Contains(versions, version) {
			complain("%s is about APISIX %s, which no run is for", place, version)
		}
		if reason == "" {
			complain("%s gives no reason", place)
		}
	}
	run := map[string]Test{}
	for _, test := range lists.Run {
		run[test.Name] = test
		for version, reason := range test.NotOn {
			checkVersion("not_on of "+test.Name, version, reason)
		}
		for version, reason := range test.ReturnsAtOnceOn {
			checkVersion("returns_at_once_on of "+test.Name, version, reason)
		}
	}
	for _, group := range slices.Concat(lists.ExpectedToFail, lists.NotRun) {
		if len(group.Tests) == 0 {
			complain("the group %q has no tests", group.Reason)
		}
		for _, version := range group.OnlyOn {
			checkVersion("a group", version, group.Reason)
		}
		if group.Reason == "" {
			complain("the group of %v gives no reason", group.Tests)
		}
	}
	for _, group := range lists.ExpectedToFail {
		for _, name := range group.Tests {
			test, ok := run[name]
			fails := func(version string) bool {
				return lists.planned(test, version).Expectation == Fails && group.isOn(version)
			}
			if !ok {
				complain("%s is expected to fail, and not in run", name)
			} else if !slices.ContainsFunc(versions, fails) {
				complain("%s is expected to fail, and nowhere can it: it is not run or returns at once", name)
			}
		}
	}
}

func (lists *Lists) versions() []string {
	versions := []string{}
	for _, plane := range lists.DataPlanes {
		versions = append(versions, plane.APISIXVersion)
	}
	return versions
}

// DataPlane finds the data plane of a version of APISIX.
func (lists *Lists) DataPlane(version string) (*DataPlane, error) {
	for i := range lists.DataPlanes {
		if lists.DataPlanes[i].APISIXVersion == version {
			return &lists.DataPlanes[i], nil
		}
	}
	return nil, fmt.Errorf("there is no data plane of APISIX %s in the lists, only of %v", version, lists.versions())
}

// Plan says what every listed test must do in the run for a version of APISIX: those that are run first, in the order of the
// lists.
func (lists *Lists) Plan(version string) []Planned {
	planned := []Planned{}
	for _, test := range lists.Run {
		planned = append(planned, lists.planned(test, version))
	}
	for _, group := range lists.NotRun {
		for _, name := range group.Tests {
			planned = append(planned, Planned{name, NotRun, group.Reason})
		}
	}
	return planned
}

func (lists *Lists) planned(test Test, version string) Planned {
	if reason, ok := test.NotOn[version]; ok {
		return Planned{test.Name, NotRun, reason}
	}
	if reason, ok := test.ReturnsAtOnceOn[version]; ok {
		return Planned{test.Name, ReturnsAtOnce, reason}
	}
	for _, group := range lists.ExpectedToFail {
		if group.isOn(version) && slices.Contains(group.Tests, test.Name) {
			return Planned{test.Name, Fails, group.Reason}
		}
	}
	return Planned{test.Name, Passes, ""}
}

func (group Group) isOn(version string) bool {
	return len(group.OnlyOn) == 0 || slices.Contains(group.OnlyOn, version)
}
