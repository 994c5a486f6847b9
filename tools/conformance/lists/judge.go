package lists

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what a test did.
type Outcome struct {
	Failed  bool
	Skipped bool
	// Looks is how often it asked the API server for something, its manifests left out.
	Looks int
	Took  time.Duration
}

// Line is one test in the table of a run.
type Line struct {
	Planned
	// Said is what the test did, in words.
	Said string
	// Complaint is empty if the test did what it must.
	Complaint string
	Took      time.Duration
}

// Judge compares what every planned test did with what it must do. A test that has no outcome did not run.
func Judge(planned []Planned, outcomes map[string]Outcome) []Line {
	lines := []Line{}
	for _, test := range planned {
		outcome, ran := outcomes[test.Name]
		said, complaint := judge(test, outcome, ran)
		lines = append(lines, Line{test, said, complaint, outcome.Took})
	}
	return lines
}

func judge(test Planned, outcome Outcome, ran bool) (said string, complaint string) {
	switch {
	case test.Expectation == NotRun && !ran:
		return "not run", ""
	case test.Expectation == NotRun:
		return "ran", "it ran, and must not"
	case !ran:
		return "did not run", "it did not come to an end"
	case outcome.Skipped:
		return "skipped", "the suite skipped it: claim the features that it asks for, or list it in not_run"
	}
	atOnce := outcome.Looks == 0
	switch test.Expectation {
	case Fails:
		if outcome.Failed {
			return "failed, as expected", ""
		}
		return "passed", "it passes: take it out of expected_to_fail"
	case ReturnsAtOnce:
		switch {
		case outcome.Failed:
			return "failed", "it failed"
		case !atOnce:
			return "passed", "it looked at the cluster: take it out of returns_at_once_on"
		}
		return "returned at once, by design", ""
	case Passes:
		switch {
		case outcome.Failed:
			return "failed", "it failed"
		case atOnce:
			return "returned at once", "it passed without a look at the cluster: say in returns_at_once_on why that is so"
		}
		return "passed", ""
	case NotRun:
	}
	return "ran", "nothing is known of what it must do"
}

// JudgeFeatures compares the features that a GatewayClass's status names with those that the run claims.
func JudgeFeatures(plane *DataPlane, reported []string) []string {
	complaints := []string{}
	for _, feature := range plane.Features {
		unreported := slices.Contains(plane.FeaturesNotReported, feature)
		switch {
		case slices.Contains(reported, feature) && unreported:
			complaints = append(complaints, fmt.Sprintf("the GatewayClass names %s: take it out of features_not_reported", feature))
		case !slices.Contains(reported, feature) && !unreported:
			complaints = append(complaints, fmt.Sprintf("the GatewayClass does not name %s, which the run claims", feature))
		}
	}
	for _, feature := range plane.FeaturesNotReported {
		if !slices.Contains(plane.Features, feature) {
			complaints = append(complaints, fmt.Sprintf("%s is in features_not_reported, and not in features", feature))
		}
	}
	for _, feature := range reported {
		if !slices.Contains(plane.Features, feature) {
			complaints = append(complaints, fmt.Sprintf("the GatewayClass names %s, which the run does not claim: add it to features", feature))
		}
	}
	return complaints
}

// Table is the lines of one run for people; tests that have a reason in common for not being run share a paragraph.
func Table(title string, lines []Line, complaints []string) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "%s\n", title)
	rows := [][3]string{}
	notRun := 0
	for _, line := range lines {
		if line.Expectation == NotRun && line.Complaint == "" {
			notRun++
			continue
		}
		why := line.Reason
		if line.Complaint != "" {
			why = "WRONG: " + line.Complaint
		}
		rows = append(rows, [3]string{line.Name, fmt.Sprintf("%s (%.1f s)", line.Said, line.Took.Seconds()), why})
	}
	widths := [2]int{}
	for _, row := range rows {
		widths[0], widths[1] = max(widths[0], len(row[0])), max(widths[1], len(row[1]))
	}
	for _, row := range rows {
		fmt.Fprintln(text, strings.TrimRight(fmt.Sprintf("  %-*s  %-*s  %s", widths[0], row[0], widths[1], row[1], row[2]), " "))
	}
	if notRun > 0 {
		fmt.Fprintf(text, "  %d not run:\n", notRun)
		for _, group := range byReason(lines) {
			fmt.Fprintf(text, "    %s: %s\n", group.Reason, strings.Join(group.Tests, ", "))
		}
	}
	for _, complaint := range complaints {
		fmt.Fprintf(text, "  WRONG: %s\n", complaint)
	}
	return text.String()
}

// byReason groups what was not run, in the order of the lines.
func byReason(lines []Line) []Group {
	groups := []Group{}
	for _, line := range lines {
		if line.Expectation != NotRun || line.Complaint != "" {
			continue
		}
		place := slices.IndexFunc(groups, func(group Group) bool { return group.Reason == line.Reason })
		if place < 0 {
			place = len(groups)
			groups = append(groups, Group{Reason: line.Reason})
		}
		groups[place].Tests = append(groups[place].Tests, line.Name)
	}
	return groups
}

// Wrong is how many tests did not do what they must.
func Wrong(lines []Line) int {
	wrong := 0
	for _, line := range lines {
		if line.Complaint != "" {
			wrong++
		}
	}
	return wrong
}
