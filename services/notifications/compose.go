package notifications

import (
	"fmt"
	"strings"
	"unicode"

	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// subject is the title of a notice on one line, whatever it holds.
func subject(n Notice) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, n.GetTitle())
}

// text is what people read: what the sender says, and where, by id and name (NT-5).
func text(n Notice) string {
	var b strings.Builder
	if n.GetText() != "" {
		b.WriteString(strings.TrimRight(n.GetText(), "\n") + "\n\n")
	} else {
		b.WriteString(subject(n) + "\n\n")
	}
	for _, at := range n.GetPath() {
		fmt.Fprintf(&b, "%-13s %s\n", word(at.GetType())+":", called(at))
	}
	fmt.Fprintf(&b, "%-13s %s\n", "Event:", n.GetEvent())
	fmt.Fprintf(&b, "%-13s %s\n", "Time:", n.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	fmt.Fprintf(&b, "%-13s %s\n", "Notice:", n.GetId())
	return b.String()
}

// called is the name of a resource and its id.
func called(at *notificationv1.PathElement) string {
	if at.GetName() == "" {
		return at.GetId()
	}
	return oneLine(at.GetName()) + " (" + at.GetId() + ")"
}

// oneLine puts a name on one line.
func oneLine(name string) string { return strings.Join(strings.Fields(name), " ") }

// word is what people call a type: Cloud for resource-manager.cloud.
func word(typ string) string {
	name := typ[strings.LastIndexByte(typ, '.')+1:]
	if name == "" {
		return typ
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
