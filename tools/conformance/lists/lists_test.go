package lists

import (
	"slices"
	"strings"
	"testing"
)

const sound = `
data_planes:
  - {apisix_version: "3.18", features: [Gateway, TCPRoute], features_not_reported: [TCPRoute]}
  - {apisix_version: "3.19", features: [Gateway]}
run:
  - {name: Good}
  - {name: Later, not_on: {"3.18": needs more}}
  - {name: Nothing, returns_at_once_on: {"3.19": by design}}
expected_to_fail:
  - {reason: not served, only_on: ["3.19"], tests: [Later]}
not_run:
  - {reason: needs traffic, tests: [Far]}
`

var suite = []string{"Good", "Later", "Nothing", "Far"}

func parsed(t *testing.T, text string) *Lists {
	t.Helper()
	lists, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return lists
}

func TestEveryTestOfTheSuiteIsInExactlyOneListAndEveryNameStandsForSomething(t *testing.T) {
	check := func(old, new string, names []string, want string) {
		t.Helper()
		got := strings.Join(parsed(t, strings.Replace(sound, old, new, 1)).Check(names), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q for %q: complained %q, not %q", new, old, got, want)
		}
	}
	check("", "", suite, "")
	check("", "", append(slices.Clone(suite), "New"), "New is a test of the suite and in no list")
	check("", "", suite[:3], "Far is listed, and the suite has no such test")
	check("tests: [Far]", "tests: [Far, Good]", suite, "Good is listed 2 times")
	check("reason: needs traffic", `reason: ""`, suite, "the group of [Far] gives no reason")
	check(`not_on: {"3.18": needs more}`, `not_on: {"3.17": needs more}`, suite, "APISIX 3.17, which no run is for")
	check("by design", `""`, suite, "returns_at_once_on of Nothing gives no reason")
	check("tests: [Later]", "tests: [Far]", suite, "Far is expected to fail, and not in run")
	check("tests: [Later]", "tests: [Nothing]", suite, "Nothing is expected to fail, and nowhere can it")
	check("tests: [Later]", "tests: []", suite, "has no tests")
}

func TestAFieldThatIsMisspeltIsAnError(t *testing.T) {
	if _, err := Parse([]byte("run: [{name: Good, noton: {}}]")); err == nil {
		t.Error("it was read")
	}
}

func TestATestMustDoWhatTheListsSay(t *testing.T) {
	passed, looked, failed, skipped := Outcome{}, Outcome{Looks: 1}, Outcome{Looks: 1, Failed: true}, Outcome{Skipped: true}
	check := func(version, name string, outcome *Outcome, want string) {
		t.Helper()
		outcomes := map[string]Outcome{}
		if outcome != nil {
			outcomes[name] = *outcome
		}
		for _, line := range Judge(parsed(t, sound).Plan(version), outcomes) {
			if line.Name == name && (want == "" && line.Complaint != "" || !strings.Contains(line.Complaint, want)) {
				t.Errorf("%s on %s: complained %q, not %q", name, version, line.Complaint, want)
			}
		}
	}
	check("3.18", "Good", &looked, "")
	check("3.18", "Good", &passed, "without a look")
	check("3.18", "Good", &failed, "it failed")
	check("3.18", "Good", &skipped, "the suite skipped it")
	check("3.18", "Good", nil, "did not come to an end")
	check("3.18", "Later", nil, "")
	check("3.18", "Later", &looked, "it ran, and must not")
	check("3.19", "Later", &failed, "")
	check("3.19", "Later", &looked, "take it out of expected_to_fail")
	check("3.19", "Later", nil, "did not come to an end")
	check("3.18", "Nothing", &looked, "")
	check("3.19", "Nothing", &passed, "")
	check("3.19", "Nothing", &looked, "take it out of returns_at_once_on")
	check("3.19", "Nothing", &failed, "it failed")
	check("3.19", "Far", nil, "")
	check("3.19", "Far", &looked, "it ran, and must not")
}

func TestTheGatewayClassNamesTheFeaturesThatAreClaimed(t *testing.T) {
	check := func(version string, reported []string, want string) {
		t.Helper()
		plane, err := parsed(t, sound).DataPlane(version)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(JudgeFeatures(plane, reported), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%v on %s: complained %q, not %q", reported, version, got, want)
		}
	}
	check("3.18", []string{"Gateway"}, "")
	check("3.18", []string{"Gateway", "TCPRoute"}, "take it out of features_not_reported")
	check("3.19", []string{}, "does not name Gateway")
	check("3.19", []string{"Gateway", "TLSRoute"}, "names TLSRoute, which the run does not claim")
}

func TestTheListsStandWhereADocumentHasItsMarks(t *testing.T) {
	lists := parsed(t, sound)
	document := "above\n" + begin + "\nold\n" + end + "\nbelow\n"
	once, err := lists.Into(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"above\n", "\nbelow\n", "| test | APISIX 3.18 | APISIX 3.19 |\n", "| Good | passes | passes |\n",
		"| Later | not run: needs more | fails: not served |\n", "| Nothing | passes | returns at once: by design |\n",
		"- **needs traffic** (1): Far.\n",
	} {
		if !strings.Contains(once, want) {
			t.Errorf("%q is not in %q", want, once)
		}
	}
	if strings.Contains(once, "old") {
		t.Errorf("what stood there before is left: %q", once)
	}
	if twice, _ := lists.Into(once); twice != once {
		t.Errorf("a second time makes %q of %q", twice, once)
	}
	if _, err := lists.Into("nothing here\n"); err == nil {
		t.Error("a document without marks was taken")
	}
}

func TestATableNamesEveryTestThatRanAndEveryReason(t *testing.T) {
	outcomes := map[string]Outcome{"Good": {Looks: 1, Failed: true}, "Nothing": {Looks: 1}}
	lines := Judge(parsed(t, sound).Plan("3.18"), outcomes)
	table := Table("APISIX 3.18", lines, []string{"the sky"})
	for _, want := range []string{
		"Good     failed (0.0 s)  WRONG: it failed", "Nothing  passed (0.0 s)\n", "2 not run", "needs more: Later",
		"needs traffic: Far", "WRONG: the sky",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}
	if Wrong(lines) != 1 {
		t.Errorf("%d are wrong", Wrong(lines))
	}
}
