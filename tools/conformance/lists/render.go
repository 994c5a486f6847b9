package lists

import (
	"fmt"
	"strings"
)

// Where the lists stand in a document.
const (
	begin = "<!-- Written from tools/conformance/tests.yaml by `BLESS=1 make conformance`: -->"
	end   = "<!-- So far. -->"
)

// Markdown is the lists for people: what is run, with what it must do for each data plane, and what is not run.
func (lists *Lists) Markdown() string {
	text := &strings.Builder{}
	versions := lists.versions()
	fmt.Fprintf(text, "| test | %s |\n", "APISIX "+strings.Join(versions, " | APISIX "))
	fmt.Fprintf(text, "|---|%s\n", strings.Repeat("---|", len(versions)))
	for _, test := range lists.Run {
		cells := []string{}
		for _, version := range versions {
			cells = append(cells, cell(lists.planned(test, version)))
		}
		fmt.Fprintf(text, "| %s | %s |\n", test.Name, strings.Join(cells, " | "))
	}
	notRun := 0
	for _, group := range lists.NotRun {
		notRun += len(group.Tests)
	}
	fmt.Fprintf(text, "\nThe other %d tests of the suite are not run. Each reason, and its tests:\n\n", notRun)
	for _, group := range lists.NotRun {
		fmt.Fprintf(text, "- **%s** (%d): %s.\n", group.Reason, len(group.Tests), strings.Join(group.Tests, ", "))
	}
	return text.String()
}

func cell(test Planned) string {
	switch test.Expectation {
	case Passes:
		return "passes"
	case ReturnsAtOnce:
		return "returns at once: " + test.Reason
	case Fails:
		return "fails: " + test.Reason
	case NotRun:
	}
	return "not run: " + test.Reason
}

// Into puts the lists where document has its marks; an error if it has none.
func (lists *Lists) Into(document string) (string, error) {
	before, rest, found := strings.Cut(document, begin+"\n")
	_, after, ended := strings.Cut(rest, end+"\n")
	if !found || !ended {
		return "", fmt.Errorf("the document has no lines %q and %q", begin, end)
	}
	return before + begin + "\n\n" + lists.Markdown() + "\n" + end + "\n" + after, nil
}
